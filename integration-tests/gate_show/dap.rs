//! Debugging step by step through the gate: an editor's conversation with `buildx dap build`, which stops a
//! build at each of its steps and looks into the files of it, is the one over the bare daemon.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use super::clients::{TCP, tcp};
use crate::frontend_show::clients::Buildx;
use crate::gate_enforce::only;
use crate::gate_process::Gate;
use crate::peers::{self, need};

/// Most stops of one build.
const STOPS: usize = 20;
/// How deep variables are looked into.
const DEPTH: usize = 4;

/// An editor that debugs a build.
struct Editor {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    sent: u64,
    /// Events that nobody has waited for yet.
    events: Vec<Value>,
    /// What was printed.
    said: String,
}

impl Editor {
    fn start(buildx: &Buildx, context: &Path) -> Self {
        let mut command = buildx.command(&["dap", "build", "--no-cache"]);
        command.env("BUILDX_EXPERIMENTAL", "1").arg(context).current_dir(context);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let output = BufReader::new(output);
        Self { child, input, output, sent: 0, events: Vec::new(), said: String::new() }
    }

    /// What comes next, by the headers before it.
    fn message(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it is gone: {}", self.said);
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.parse().unwrap();
            }
        }
        let mut content = vec![0; length];
        self.output.read_exact(&mut content).unwrap();
        let message: Value = serde_json::from_slice(&content).unwrap();
        if let Some(output) = message["body"]["output"].as_str() {
            self.said.push_str(output);
        }
        message
    }

    /// Asks, and gives the body of the answer.
    fn ask(&mut self, command: &str, arguments: Value) -> Value {
        self.sent += 1;
        let sent = self.sent;
        let request =
            json!({"seq": sent, "type": "request", "command": command, "arguments": arguments});
        let request = request.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{request}", request.len()).unwrap();
        loop {
            let message = self.message();
            if message["type"] == "response" && message["request_seq"] == sent {
                assert_eq!(message["success"], true, "{command}: {message}\n{}", self.said);
                return message["body"].clone();
            }
            self.events.push(message);
        }
    }

    /// The next event of one of these kinds.
    fn event(&mut self, kinds: &[&str]) -> Value {
        let wanted = |message: &Value| kinds.iter().any(|kind| message["event"] == *kind);
        if let Some(at) = self.events.iter().position(wanted) {
            return self.events.remove(at);
        }
        loop {
            let message = self.message();
            if wanted(&message) {
                return message;
            }
            self.events.push(message);
        }
    }

    /// Names and values, to the bottom of each.
    fn variables(&mut self, reference: &Value, depth: usize) -> Value {
        if depth == 0 || *reference == 0 {
            return Value::Null;
        }
        let body = self.ask("variables", json!({"variablesReference": reference}));
        let all = body["variables"].as_array().unwrap().clone();
        let below = |one: Value| {
            let within = self.variables(&one["variablesReference"], depth - 1);
            json!([one["name"], one["value"], within])
        };
        all.into_iter().map(below).collect()
    }

    /// Where a thread stands, and all that can be seen from there.
    fn stands(&mut self, thread: &Value) -> Value {
        let body = self.ask("stackTrace", json!({"threadId": thread}));
        let frames = body["stackFrames"].as_array().unwrap().clone();
        let seen = frames.into_iter().map(|frame| {
            let body = self.ask("scopes", json!({"frameId": frame["id"]}));
            let scopes = body["scopes"].as_array().unwrap().clone();
            let scopes = scopes.into_iter().map(|scope| {
                json!([scope["name"], self.variables(&scope["variablesReference"], DEPTH)])
            });
            let scopes: Value = scopes.collect();
            json!([frame["name"], frame["line"], frame["endLine"], frame["source"]["path"], scopes])
        });
        seen.collect()
    }

    /// Goes through the whole build step by step: every stop, and how it ended.
    fn debug(mut self) -> (Vec<Value>, Value, String) {
        self.ask("initialize", json!({"adapterID": "buildx", "clientID": "test"}));
        self.ask("launch", json!({"stopOnEntry": true}));
        self.event(&["initialized"]);
        self.ask("configurationDone", json!({}));
        let mut stops = Vec::new();
        loop {
            let event = self.event(&["stopped", "terminated"]);
            if event["event"] == "terminated" {
                break;
            }
            let (reason, thread) = (&event["body"]["reason"], &event["body"]["threadId"]);
            let seen = self.stands(thread);
            stops.push(json!([reason, seen]));
            assert!(stops.len() < STOPS, "{stops:?}");
            self.ask("next", json!({"threadId": thread}));
        }
        let code = self.event(&["exited"])["body"]["exitCode"].clone();
        drop(self.input);
        self.child.wait().unwrap();
        (stops, code, self.said)
    }
}

#[test]
fn a_build_is_debugged_step_by_step_as_by_the_bare_daemon() {
    let world = need!(peers::world());
    let gate = Gate::before(world, &only("endswith(input.image.repo, \"base\")"), &TCP);
    let (bare, gated) = (need!(Buildx::get(world)), need!(Buildx::at(&tcp(&gate))));
    let dockerfile = format!(
        "FROM {}\nUSER 0\nCOPY seen /seen\nRUN [\"/bin/busybox\", \"touch\", \"/made\"]\n",
        world.image("base:1")
    );
    let context = peers::folder(&[("Dockerfile", &dockerfile), ("seen", "content")]);
    let [bare, through] =
        [bare, &gated].map(|buildx| Editor::start(buildx, context.path()).debug());
    assert_eq!((&bare.0, &bare.1), (&through.0, &through.1), "{}\n{}", bare.2, through.2);
    let (stops, code, said) = through;
    assert_eq!(code, 0, "{said}");
    assert!(stops.len() > 2, "{stops:?}");
    let seen = Value::from(stops).to_string();
    for file in ["\"seen\"", "\"bin/\"", "\"/made\""] {
        assert!(seen.contains(file), "{file}: {seen}");
    }

    let evil = format!("FROM {}\n", world.image("debugged-evil:1"));
    let context = peers::folder(&[("Dockerfile", &evil)]);
    let (stops, code, said) = Editor::start(&gated, context.path()).debug();
    assert_eq!((stops.len(), code), (0, json!(1)), "{said}");
    assert!(said.contains("ours says no"), "{said}");
    assert_eq!(world.registry.accesses(&["debugged-evil"]), [""; 0]);
}
