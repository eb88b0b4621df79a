//! Recovery words and safety numbers, as people type and paste them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mildam_e2ee::recovery::{RecoveryWords, WORDS, WordLanguage};
use mildam_e2ee::safety_number;

fuzz_target!(|text: &str| {
    if let Ok(words) = RecoveryWords::parse(text) {
        let english = words.words(WordLanguage::English);
        assert_eq!(english.len(), WORDS);
        for language in [WordLanguage::English, WordLanguage::Korean] {
            let again = RecoveryWords::parse(&words.words(language).join(" ")).expect("words in a list");
            assert_eq!(again.words(WordLanguage::English), english);
        }
    }
    if let Ok(digits) = safety_number::digits(text) {
        assert_eq!(safety_number::digits(&digits), Ok(digits.clone()));
    }
});
