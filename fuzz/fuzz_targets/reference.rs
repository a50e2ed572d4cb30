//! Any image reference and platform: what is accepted is normalised once and for all.
#![no_main]

use buildgate::source::{ImageSource, Platform};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(image) = ImageSource::parse(text) {
        assert_eq!(ImageSource::parse(&image.reference()), Ok(image));
    }
    if let Ok(platform) = Platform::parse(text) {
        assert_eq!(Platform::parse(&platform.to_string()), Ok(platform));
    }
});
