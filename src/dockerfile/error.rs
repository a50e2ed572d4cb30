//! What is wrong with a Dockerfile, and at which line.

use super::Lines;
use crate::source::{PlatformError, ReferenceError, SourceError};

/// A Dockerfile that cannot be planned. It says where, so that the line can be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct DockerfileError {
    /// The instruction's lines; none where the file or the options as a whole are wrong.
    pub lines: Option<Lines>,
    /// The first of those lines, as written.
    pub source_line: Option<String>,
    /// What is wrong.
    #[source]
    pub problem: Box<Problem>,
}

impl std::fmt::Display for DockerfileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.lines {
            Some(lines) => write!(f, "Dockerfile line {}: {}", lines.start, self.problem),
            None => write!(f, "Dockerfile: {}", self.problem),
        }
    }
}

/// A problem and its place, before the text of the line is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) lines: Option<Lines>,
    pub(super) problem: Problem,
}

impl Fault {
    pub(super) fn at(lines: Lines, problem: impl Into<Problem>) -> Self {
        Self { lines: Some(lines), problem: problem.into() }
    }

    pub(super) fn draw(self, text: &str) -> DockerfileError {
        let source_line = self
            .lines
            .and_then(|lines| text.lines().nth(lines.start.saturating_sub(1)))
            .map(str::to_owned);
        DockerfileError { lines: self.lines, source_line, problem: Box::new(self.problem) }
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self { lines: None, problem }
    }
}

/// Why a Dockerfile cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// No bytes at all.
    #[error("the Dockerfile cannot be empty")]
    Empty,
    /// Nothing but comments and blank lines.
    #[error("file with no instructions")]
    NoInstructions,
    /// There is no `FROM`.
    #[error("the Dockerfile contains no stages to build")]
    NoStages,
    /// The file is over the size that the Dockerfile frontend reads, or has too many stages.
    #[error("the Dockerfile has too many {what}: at most {limit} are read")]
    TooLarge {
        /// Bytes or stages.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// A physical line over 65,535 bytes, which BuildKit does not read.
    #[error("the line is longer than the {limit} bytes that BuildKit reads")]
    LongLine {
        /// Bytes allowed.
        limit: usize,
    },
    /// A parser directive given twice.
    #[error("only one {name} parser directive can be used")]
    RepeatedDirective {
        /// The directive.
        name: String,
    },
    /// `# escape=` names neither backslash nor backtick.
    #[error("invalid escape token '{token}': it must be ` or \\")]
    EscapeToken {
        /// As written.
        token: String,
    },
    /// The end of the file came before a heredoc's last line.
    #[error("unterminated heredoc: no line is `{name}`")]
    UnterminatedHeredoc {
        /// The word that would end it.
        name: String,
    },
    /// No Dockerfile instruction has this name.
    #[error("unknown instruction: {}{}", keyword.escape_debug(), hint(nearest))]
    UnknownInstruction {
        /// As written.
        keyword: String,
        /// The instruction that looks most like it.
        nearest: Option<String>,
    },
    /// An instruction before the first `FROM` that is not `ARG`.
    #[error("no build stage in current context: {keyword} must come after FROM")]
    BeforeFrom {
        /// The instruction.
        keyword: String,
    },
    /// A JSON array that holds something else than strings.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings,
    /// A JSON string with half of a surrogate pair, which decoders read differently.
    #[error("the JSON array holds half of a surrogate pair")]
    JsonSurrogate,
    /// A flag that this instruction does not have.
    #[error("unknown flag: --{}{}", flag.escape_debug(), hint(nearest))]
    UnknownFlag {
        /// Its name.
        flag: String,
        /// The flag that looks most like it.
        nearest: Option<String>,
    },
    /// A flag given twice.
    #[error("duplicate flag specified: --{flag}")]
    RepeatedFlag {
        /// Its name.
        flag: String,
    },
    /// A flag that wants a value.
    #[error("missing a value on flag: --{flag}")]
    FlagWithoutValue {
        /// Its name.
        flag: String,
    },
    /// A boolean flag with another value.
    #[error("expecting boolean value for flag --{flag}, not: {value}")]
    FlagNotBoolean {
        /// Its name.
        flag: String,
        /// As written.
        value: String,
    },
    /// The flags end inside a character that is not ASCII.
    #[error("flags hold characters that BuildKit cannot read")]
    FlagBytes,
    /// Too few or too many arguments.
    #[error("{instruction} requires {wanted}")]
    Arguments {
        /// The instruction.
        instruction: &'static str,
        /// How many it wants.
        wanted: &'static str,
    },
    /// `name=value` without `=`, or without a name.
    #[error("{instruction}: `{word}` must be of the form name=value")]
    KeyValue {
        /// The instruction.
        instruction: &'static str,
        /// As written.
        word: String,
    },
    /// `FROM x AS name` with a name that BuildKit refuses.
    #[error(
        "invalid name for build stage: {name:?}: it must start with a letter and hold only letters, digits, `-`, `_` and `.`"
    )]
    StageName {
        /// As written.
        name: String,
    },
    /// A heredoc where none can stand.
    #[error("{instruction} cannot accept a heredoc as a destination")]
    HeredocDestination {
        /// The instruction.
        instruction: &'static str,
    },
    /// An instruction that cannot be a trigger.
    #[error("{instruction} isn't allowed as an ONBUILD trigger")]
    Trigger {
        /// The instruction.
        instruction: String,
    },
    /// `FROM` whose base expands to nothing.
    #[error("base name ({written}) should not be blank{}", unset(variables))]
    BlankBase {
        /// As written.
        written: String,
        /// The variables in it that have no value.
        variables: Vec<String>,
    },
    /// `--platform` that expands to nothing.
    #[error("empty platform value from expression {written}{}", unset(variables))]
    BlankPlatform {
        /// As written.
        written: String,
        /// The variables in it that have no value.
        variables: Vec<String>,
    },
    /// A platform that cannot be parsed.
    #[error("failed to parse platform {written}: {error}")]
    Platform {
        /// As written.
        written: String,
        /// Why.
        #[source]
        error: PlatformError,
    },
    /// A variable expansion that failed.
    #[error("failed to process {word:?}: {error}")]
    Expand {
        /// The word.
        word: String,
        /// Why.
        #[source]
        error: ExpandError,
    },
    /// A variable in `COPY --from` or `RUN --mount=from=`.
    #[error(
        "variable expansion is not supported for {option}: define a stage with FROM, using a global ARG, and name that"
    )]
    VariableInFrom {
        /// `--from` or `from`.
        option: &'static str,
    },
    /// `COPY --from=7` where there are fewer stages.
    #[error("invalid stage index {index}")]
    StageIndex {
        /// As written.
        index: String,
    },
    /// `--target` that is no stage.
    #[error("target stage {name:?} could not be found{}", hint(nearest))]
    Target {
        /// As given.
        name: String,
        /// The stage that looks most like it.
        nearest: Option<String>,
    },
    /// Stages that copy from each other.
    #[error("circular dependency detected on stage: {stage}")]
    Circular {
        /// One of them.
        stage: String,
    },
    /// A stage is used above the line that defines it.
    #[error("cannot {verb} from stage {stage:?}: it needs to be defined before the current stage")]
    LaterStage {
        /// `copy` or `mount`.
        verb: &'static str,
        /// The stage.
        stage: String,
    },
    /// A mount that cannot be read.
    #[error("--mount: {reason}")]
    Mount {
        /// Why.
        reason: String,
    },
    /// An image reference that cannot be parsed.
    #[error("failed to parse image name {written:?}: {error}")]
    ImageName {
        /// As written, expanded.
        written: String,
        /// Why.
        #[source]
        error: ReferenceError,
    },
    /// A git URL that cannot be parsed.
    #[error("invalid git source: {error}")]
    Git {
        /// Why; it names the source.
        #[source]
        error: Box<SourceError>,
    },
    /// A source that only `ADD` can load.
    #[error("source can't be a {kind} for COPY")]
    RemoteCopy {
        /// `URL` or `git ref`.
        kind: &'static str,
    },
    /// `--checksum` that cannot be applied.
    #[error("--checksum: {reason}")]
    Checksum {
        /// Why.
        reason: String,
    },
    /// `--keep-git-dir` says one thing, the URL another.
    #[error("inconsistent keep-git-dir configuration")]
    KeepGitDir,
    /// `--build-context` that the frontend cannot load.
    #[error("invalid build context {name}={value}: {reason}")]
    Context {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
        /// Why.
        reason: String,
    },
    /// `SOURCE_DATE_EPOCH` that names nothing.
    #[error("invalid SOURCE_DATE_EPOCH: {value}")]
    Epoch {
        /// As given.
        value: String,
    },
}

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// The word ended before this.
    #[error("unexpected end of statement while looking for matching {0}")]
    Unmatched(&'static str),
    /// `${` without `}`.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${X/pattern` without the second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}`, `${:…}`, `${{…}`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// `${X^}` and the like.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// `${X:?message}` of a variable without a value.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the Dockerfile says of it.
        message: String,
    },
    /// A pattern that is none.
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    Pattern {
        /// As written.
        pattern: String,
        /// Why.
        reason: String,
    },
    /// Substitutions within substitutions.
    #[error("substitutions are nested more than {0} deep")]
    TooDeep(usize),
    /// Values that grow with every line.
    #[error("the values of variables grow beyond {0} bytes")]
    TooLarge(usize),
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

fn unset(variables: &[String]) -> String {
    if variables.is_empty() {
        return String::new();
    }
    format!(": {} has no value", variables.join(", "))
}

/// The option within two edits of `word`, for "did you mean".
pub(super) fn nearest<'a>(
    word: &str,
    options: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    // Anything longer is no slip of a finger, and the distance costs the product of the lengths.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase();
    options
        .into_iter()
        .filter(|option| option.len() <= 64)
        .map(|option| (distance(&word, &option.to_lowercase()), option))
        .filter(|(edits, _)| (1..3).contains(edits))
        .min()
        .map(|(_, option)| option.to_owned())
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        let mut beside = i + 1;
        for (right, above) in b.iter().zip(row.windows(2)) {
            let [diagonal, above] = above else { continue };
            beside = (diagonal + usize::from(left != *right)).min(above + 1).min(beside + 1);
            next.push(beside);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
