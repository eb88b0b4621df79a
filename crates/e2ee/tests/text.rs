//! docs/e2ee.md keeps up with the code: it names every label, every refusal and every constant.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

#[test]
fn the_text_names_every_label_and_every_refusal() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(here.join("../../docs/e2ee.md")).unwrap();
    let mut files = Vec::new();
    sources(&here.join("src"), &mut files);
    sources(&here.join("../records/src"), &mut files);
    let mut names = BTreeSet::new();
    for file in files {
        let code = std::fs::read_to_string(&file).unwrap();
        let labels = code.split("mildam/").skip(1).filter_map(|rest| rest.split_once("/v1"));
        names.extend(labels.map(|(purpose, _)| format!("mildam/{purpose}/v1")));
        if file.ends_with("room/rule.rs") {
            let codes = code.split("fn code").nth(1).unwrap().split("fn ").next().unwrap();
            names
                .extend(quoted(codes.split("/// What kind").next().unwrap()).map(|code| format!("`{code}`")));
        }
    }
    assert!(names.len() > 40, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !text.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "docs/e2ee.md does not name {missing:?}");
}

#[test]
fn the_text_states_the_limits() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/e2ee.md")).unwrap();
    use mildam_e2ee::room::{EPOCH_MESSAGES, EPOCH_MILLISECONDS, MAX_CONTENT};
    for (limit, stated) in [
        (EPOCH_MESSAGES, "1,000 messages"),
        (EPOCH_MILLISECONDS / (24 * 60 * 60 * 1000), "7 days"),
        (MAX_CONTENT as u64, "96,255 bytes"),
    ] {
        let number: String = stated.chars().filter(char::is_ascii_digit).collect();
        assert_eq!(number, limit.to_string());
        assert!(text.contains(stated), "{stated}");
    }
}
