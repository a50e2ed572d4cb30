//! Interactive debugging through the gate: a shell at a terminal in what a build came to, as by the bare
//! daemon, and containers that are those of the builds of their own client.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use buildgate::rpc::{self, Channel, frame};
use buildgate::source::SourceOp;
use buildgate::wire::proto::control::SolveRequest;
use buildgate::wire::proto::gateway::exec_message::Input;
use buildgate::wire::proto::gateway::{
    self, ExecMessage, InitMessage, NewContainerRequest, NewContainerResponse,
};
use buildgate::wire::proto::pb;
use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message as _;
use tonic::{Code, Status};

use super::clients::{BRIDGE, TCP, another, of_build, solve, tcp, user};
use crate::frontend_show::clients::Buildx;
use crate::gate_enforce::{only, unique};
use crate::gate_process::{Gate, until};
use crate::peers::{self, llb, need};

/// A program at a terminal of its own.
struct Terminal {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Terminal {
    fn start(script: &Path, program: &Command) -> Self {
        let words = std::iter::once(program.get_program()).chain(program.get_args());
        let line: Vec<String> = words.map(|word| format!("'{}'", word.display())).collect();
        let env = program.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let mut child = Command::new(script)
            .args(["-qec", &line.join(" "), "/dev/null"])
            .envs(env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (mut output, hears) = (child.stdout.take().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut chunk) {
                hears.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..length]));
            }
        });
        Self { child, said }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn hears(&self, words: &str) {
        until(words, || self.said().contains(words).then_some(()));
    }

    fn types(&mut self, line: &str) {
        let mut keys = self.child.stdin.as_ref().unwrap();
        keys.write_all(line.as_bytes()).unwrap();
        keys.write_all(b"\n").unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the terminal:\n{}", self.said());
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_shell_in_a_build_is_that_of_the_bare_daemon() {
    let world = need!(peers::world());
    let script = need!(peers::installed("script", "bsdutils"));
    let gate = Gate::before(world, &only("endswith(input.image.repo, \"base\")"), &TCP);
    let (bare, gated) = (need!(Buildx::get(world)), need!(Buildx::at(&tcp(&gate))));
    let dockerfile = format!(
        "FROM {}\nUSER 0\nWORKDIR /srv\nRUN [\"/bin/busybox\", \"mkdir\", \"made\"]\n",
        world.image("base:1")
    );
    let context = peers::folder(&[("Dockerfile", &dockerfile)]);
    let context = context.path().to_str().unwrap();
    let shell = |buildx: &Buildx| {
        let invoke = "--invoke=entrypoint=/bin/busybox,args=sh";
        let build = ["debug", "--on=always", invoke, "build", "--progress=plain", context];
        let mut command = buildx.command(&build);
        command.env("BUILDX_EXPERIMENTAL", "1");
        let mut terminal = Terminal::start(&script, &command);
        terminal.hears("/srv # ");
        // What is echoed is not yet what is answered.
        terminal.types("/bin/busybox echo in-$((6*7)) $MODE `/bin/busybox ls`; exit 3");
        terminal.hears("exit code: 3");
        terminal.types("exit");
        until("the end of Buildx", || terminal.child.try_wait().unwrap());
        let said = terminal.said();
        let answer = said.lines().find(|line| line.starts_with("in-"));
        answer.unwrap_or_else(|| panic!("nothing was answered:\n{said}")).trim().to_owned()
    };
    assert_eq!(shell(bare), "in-42 prod made");
    assert_eq!(shell(&gated), "in-42 prod made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_are_those_of_a_clients_own_builds() {
    let world = need!(peers::world());
    let gate = Gate::before(world, &only("endswith(input.image.repo, \"base\")"), &TCP);
    let (user, other) = (user(&gate).await, another(&gate).await);
    let reference = unique();
    let open = SolveRequest { r#ref: reference.clone(), ..SolveRequest::default() };
    let solving = user.clone();
    let running = tokio::spawn(async move { solve(&solving, open).await });
    let base = SourceOp::new(format!("docker-image://{}", world.image("base:1")));
    let request = gateway::SolveRequest {
        definition: Some(llb(&[base])),
        ..gateway::SolveRequest::default()
    };
    let solved: Result<gateway::SolveResponse, Status> =
        user.call(&format!("{BRIDGE}Solve"), &of_build(&reference), &request).await;
    let root = pb::Mount {
        dest: "/".to_owned(),
        result_id: solved.unwrap().r#ref,
        ..pb::Mount::default()
    };
    let method = format!("{BRIDGE}NewContainer");
    let request = NewContainerRequest {
        container_id: unique(),
        mounts: vec![root],
        ..NewContainerRequest::default()
    };
    let (mine, nobodys) = (of_build(&reference), of_build(&unique()));
    for (what, client, build) in [
        ("another client", &other, &mine),
        ("a build of nobody", &user, &nobodys),
        ("no build", &user, &HeaderMap::new()),
    ] {
        let answer: Result<NewContainerResponse, Status> =
            client.call(&method, build, &request).await;
        assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied, "{what}");
    }
    let made: Result<NewContainerResponse, Status> = user.call(&method, &mine, &request).await;
    made.unwrap();
    let id = &request.container_id;
    let refused = exec(&other, &mine, id).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    let refused = exec(&user, &nobodys, id).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    assert_eq!(exec(&user, &mine, id).await.unwrap(), (b"in the container\n".to_vec(), 0));
    running.abort();
}

/// What a process in a container says, and its exit code.
async fn exec(
    channel: &Channel,
    metadata: &HeaderMap,
    container: &str,
) -> Result<(Vec<u8>, u32), Status> {
    let args = ["/bin/busybox", "echo", "in the container"].map(str::to_owned).into();
    let meta = pb::Meta { args, cwd: "/".to_owned(), ..pb::Meta::default() };
    let init = InitMessage {
        container_id: container.to_owned(),
        meta: Some(meta),
        fds: vec![1, 2],
        ..InitMessage::default()
    };
    let init = ExecMessage { process_id: unique(), input: Some(Input::Init(init)) };
    let init = frame::put(&init.encode_to_vec()).unwrap();
    // The stream stays open for what would be typed.
    let (typing, typed) = tokio::sync::mpsc::channel(1);
    typing.send(Ok::<_, rpc::BoxError>(Frame::data(init))).await.unwrap();
    let frames = futures_util::stream::unfold(typed, |mut typed| async move {
        let frame = typed.recv().await?;
        Some((frame, typed))
    });
    let mut request = Request::new(StreamBody::new(frames).boxed_unsync());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = format!("{BRIDGE}ExecProcess").parse().unwrap();
    request.headers_mut().clone_from(metadata);
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    for (name, value) in headers {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let response = channel.forward(request).await.unwrap();
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Err(status);
    }
    let mut body = response.into_body();
    let (mut buffer, mut said, mut code) = (BytesMut::new(), Vec::new(), None);
    while let Some(frame) = body.frame().await {
        match frame.unwrap().into_data() {
            Ok(data) => buffer.extend_from_slice(&data),
            Err(trailers) => {
                let trailers = trailers.into_trailers().unwrap();
                match Status::from_header_map(&trailers) {
                    Some(status) if status.code() != Code::Ok => return Err(status),
                    Some(_) | None => {}
                }
            }
        }
        while let Some(message) = frame::take(&mut buffer, frame::MAX_MESSAGE).unwrap() {
            match ExecMessage::decode(message).unwrap().input {
                Some(Input::File(file)) => said.extend_from_slice(&file.data),
                Some(Input::Exit(exit)) => code = Some(exit.code),
                Some(Input::Done(_)) => return Ok((said, code.unwrap())),
                _ => {}
            }
        }
    }
    drop(typing);
    Err(Status::unknown("the process did not end"))
}
