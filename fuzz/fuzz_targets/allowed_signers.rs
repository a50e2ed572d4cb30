#![no_main]
//! Files of SSH keys: whatever the text, keys or an error; and a line that cannot be read is passed over
//! nowhere.

use buildgate::verify::{AllowedSigners, KeyFile};
use libfuzzer_sys::fuzz_target;

const OTHER: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7BBOXoZCXjUiyWgonTlLp8VG0pnj+a7kEcz88Vho1j";

fuzz_target!(|data: &[u8]| {
    let _ = KeyFile::parse(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(keys) = AllowedSigners::parse(text) else { return };
    let again = AllowedSigners::parse(&format!("\n# keys\n{text}\n"));
    assert_eq!(again.as_ref(), Ok(&keys));
    assert!(AllowedSigners::parse(&format!("{OTHER}\n{text}")).is_ok_and(|more| more != keys));
    for line in [format!("a unknown-option {OTHER}"), format!("a {}", &OTHER[..40])] {
        assert!(AllowedSigners::parse(&format!("{text}\n{line}")).is_err());
        assert!(AllowedSigners::parse(&format!("{line}\n{text}")).is_err());
    }
});
