//! argv → [`buildgate::cli`] → exit code.

fn main() -> std::process::ExitCode {
    buildgate::cli::main()
}
