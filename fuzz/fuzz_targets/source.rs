//! Any identifier and `git.fullurl`: nothing panics, no accepted source climbs out of its place,
//! and no control character reaches a log.
#![no_main]

use buildgate::source::{Source, SourceOp, parse_git_user};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (String, Option<String>)| {
    let (text, full_url) = input;
    let mut op = SourceOp::new(text.as_str());
    if let Some(full_url) = full_url {
        op.attrs.insert("git.fullurl".into(), full_url);
    }
    assert!(!op.masked().contains(char::is_control));
    match Source::parse(&op) {
        Ok(Source::Http(http)) => {
            assert!(http.host.is_ascii() && !http.host.is_empty());
            assert!(!http.path.split(['/', '\\']).any(|segment| segment == ".."));
        }
        Ok(Source::Git(git)) => {
            assert!(!git.remote.contains("/../") && !git.remote.starts_with('-'));
            assert!(!git.reference.unwrap_or_default().starts_with('-'));
        }
        Ok(Source::Image(_) | Source::Local(_) | Source::OciLayout(_) | Source::Blob(_)) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(op) = SourceOp::from_user(&text) {
        assert!(Source::parse(&op).is_ok());
    }
    let _ = parse_git_user(&text);
});
