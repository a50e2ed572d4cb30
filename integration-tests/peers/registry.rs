//! A real registry (distribution v3): plain HTTP on loopback, images in a temporary folder.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use super::daemon::Daemon;
use super::{Authority, NoPeer, tools};

/// Every manifest type that a client of today understands.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A running registry.
pub struct Registry {
    daemon: Daemon,
    host: String,
    /// Where its images are; each is there for as long as the registry that began it.
    images: PathBuf,
}

/// A name that is not loopback's own.
const NAME: &str = "registry.test";
/// Whom a registry lets in: `tests` with the password `for tests`.
const LOCKED: &str = "auth: {htpasswd: {realm: tests, path: users}}\n";
const USERS: &str = "tests:$2a$04$4/LZbe5yQCul0JwwHEMKc.DZ94xmV8.Ea4mC8mBpL.Pd2yzj4tD9G\n";

impl Registry {
    /// Starts a registry that keeps everything in a temporary folder.
    pub fn start() -> Result<Self, NoPeer> {
        Self::start_with(None, "", "")
    }

    /// The same for those alone who are `tests` with the password `for tests`.
    pub fn start_with_password() -> Result<Self, NoPeer> {
        Self::start_with(None, "", LOCKED)
    }

    /// Another way to the images of this one, over TLS: for those alone who have the password, and trust
    /// this authority. It is known by its address, and by [`Registry::name`].
    pub fn behind_tls(&self, authority: &Authority) -> Result<Self, NoPeer> {
        let here = rcgen::SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
        let name = rcgen::SanType::DnsName(NAME.try_into().unwrap());
        authority.sign_names("registry", vec![here, name]);
        let file = |name: &str| authority.file(name).display().to_string();
        let tls =
            format!(", tls: {{certificate: {}, key: {}}}", file("registry"), file("registry.key"));
        Self::start_with(Some(self.images.clone()), &tls, LOCKED)
    }

    fn start_with(images: Option<PathBuf>, tls: &str, more: &str) -> Result<Self, NoPeer> {
        let program = tools::pinned("registry")?;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("users"), USERS).unwrap();
        let config = dir.path().join("registry.yml");
        let images = images.unwrap_or_else(|| dir.path().join("images"));
        let text = format!(
            "version: 0.1\n\
             log: {{level: info, formatter: text, accesslog: {{disabled: false}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:0', secret: tests{tls}}}\n{more}",
            images.display()
        );
        std::fs::write(&config, text).unwrap();
        let args = ["serve".as_ref(), config.as_os_str()];
        let mut daemon = Daemon::start("registry", &program, &args, dir);
        let host = daemon.wait_for(Duration::from_secs(20), |d| listening_on(&d.log()));
        Ok(Self { daemon, host, images })
    }

    /// A folder that is Docker's own configuration, with the password for this registry.
    pub fn login(&self) -> tempfile::TempDir {
        let password = serde_json::json!({"username": "tests", "password": "for tests"});
        let auths = serde_json::json!({"auths": {&self.host: password, self.name(): password}});
        super::folder(&[("config.json", &auths.to_string())])
    }

    /// It as it is named where `registry.test` is this machine: nothing there is loopback by its name.
    pub fn name(&self) -> String {
        format!("{NAME}:{}", self.host.rsplit(':').next().unwrap())
    }

    /// `host:port`, as it stands in image references.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// A manifest as the registry serves it to a client that understands all types of today.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Vec<u8> {
        let url = format!("http://{}/v2/{repository}/manifests/{reference}", self.host);
        let request = super::client().get(url).header("Accept", ACCEPT);
        let answer = request.send().await.unwrap().error_for_status().unwrap();
        answer.bytes().await.unwrap().to_vec()
    }

    /// Puts a manifest under a tag, as it is.
    pub fn put(&self, repository: &str, tag: &str, media_type: &str, manifest: &[u8]) {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        let head = format!(
            "PUT /v2/{repository}/manifests/{tag} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
            self.host,
            manifest.len()
        );
        stream.write_all(&[head.as_bytes(), manifest].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }

    /// The digest of a manifest, as the registry has it on disk.
    pub fn digest(&self, repository: &str, tag: &str) -> String {
        let link = format!(
            "docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/current/link"
        );
        std::fs::read_to_string(self.images.join(link)).unwrap().trim().to_owned()
    }

    /// A blob or manifest by its digest, as the registry has it on disk.
    pub fn blob(&self, digest: &str) -> Vec<u8> {
        let hex = digest.trim_start_matches("sha256:");
        let path = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        std::fs::read(self.images.join(path)).unwrap()
    }

    /// The lines of its access log so far that have all of `words`, as in
    /// `["GET", "/v2/app/manifests/"]`. Tests run side by side: ask for a repository of your own.
    pub fn accesses(&self, words: &[&str]) -> Vec<String> {
        self.daemon
            .log()
            .lines()
            .filter(|line| line.contains(" HTTP/1.1\" "))
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .map(str::to_owned)
            .collect()
    }
}

/// The address in `msg="listening on 127.0.0.1:40123"`.
fn listening_on(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("listening on ")?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))?;
    Some(rest[..end].to_owned())
}
