//! What the person is asked before something of consequence is done, in words.
//!
//! The words are made here, of values that the client gave. Nothing that the web view says stands in them.

use mildam_client::UnlockKind;

/// Something that is done only if the person wants it.
#[derive(Debug)]
pub(crate) enum Question {
    /// Something else opens the vault from now on, and what opened it before asks for no secret.
    ChangeUnlock { account: Option<String>, next: UnlockKind },
    /// A contact counts as compared.
    Verify { account: String, number: Vec<String> },
    /// Another identity of a contact takes the place of the known one; the safety numbers with both.
    TakeIdentity { account: String, known: Vec<String>, offered: Vec<String> },
    /// Another key of the server takes the place of the known one; their fingerprints.
    TakeServerKey { address: String, known: String, found: String },
    /// Another device of the account is logged out.
    EndSession { account: String, device: String },
    /// What was deleted is erased at once.
    EraseNow { account: Option<String> },
    /// This device is logged out.
    LogOut { account: String },
}

/// What the system's language may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) enum Language {
    Korean,
    English,
}

/// What a dialog shows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) title: String,
    pub(crate) heading: String,
    pub(crate) text: String,
    /// On the button that does nothing.
    pub(crate) refuse: String,
    /// On the button that does it.
    pub(crate) act: String,
}

impl Question {
    /// In a language; in all of them if the system's is not known.
    pub(crate) fn words(&self, language: Option<Language>) -> Words {
        match language {
            Some(Language::Korean) => self.korean(),
            Some(Language::English) => self.english(),
            None => {
                let (korean, english) = (self.korean(), self.english());
                Words {
                    title: "Mildam".to_owned(),
                    heading: format!("{}\n{}", korean.heading, english.heading),
                    text: format!("{}\n\n{}", korean.text, english.text),
                    refuse: format!("{} / {}", korean.refuse, english.refuse),
                    act: format!("{} / {}", korean.act, english.act),
                }
            }
        }
    }

    fn english(&self) -> Words {
        let whose = |account: &Option<String>| {
            account.as_ref().map_or_else(|| "on this computer".to_owned(), |account| format!("of {account}"))
        };
        let (heading, text, act) = match self {
            Self::ChangeUnlock { account, next: UnlockKind::Passphrase } => (
                "Set a passphrase for this computer?".to_owned(),
                format!(
                    "From now on only the passphrase that was just typed opens the messages {}. If you did not \
                     just type one, cancel: somebody may want to lock you out.",
                    whose(account)
                ),
                "Set passphrase",
            ),
            Self::ChangeUnlock { account, next: UnlockKind::Keyring } => (
                "Change the key in the keyring?".to_owned(),
                format!("The keyring opens the messages {} with a new key from now on.", whose(account)),
                "Change key",
            ),
            Self::Verify { account, number } => (
                format!("Mark {account} as compared?"),
                format!(
                    "Do so only if {account} sees the same number, and told you so in another way than by \
                     Mildam:\n\n{}",
                    in_lines(number)
                ),
                "Mark as compared",
            ),
            Self::TakeIdentity { account, known, offered } => (
                format!("Take another identity for {account}?"),
                format!(
                    "Do so only if {account} told you that it is new. What waits is sent to it.\n\n\
                     Safety number with the new identity:\n{}\n\nWith the one you know:\n{}",
                    in_lines(offered),
                    in_lines(known)
                ),
                "Take the new identity",
            ),
            Self::TakeServerKey { address, known, found } => (
                format!("Take another key for {address}?"),
                format!(
                    "Do so only if whoever runs the server has confirmed all of it.\n\n\
                     The new key:\n{}\n\nThe key that you know:\n{}",
                    in_groups(found),
                    in_groups(known)
                ),
                "Take the new key",
            ),
            Self::EndSession { account, device } => (
                format!("Log out a device of {account}?"),
                format!(
                    "This device gets no new messages until somebody logs in there with the password:\n\n{}",
                    in_groups(device)
                ),
                "Log the device out",
            ),
            Self::EraseNow { account } => (
                "Erase old keys and deleted messages now?".to_owned(),
                format!("What was deleted from the messages {} does not come back.", whose(account)),
                "Erase",
            ),
            Self::LogOut { account } => (
                format!("Log out {account} on this computer?"),
                "What is here stays. New messages come when you have logged in again with the password."
                    .to_owned(),
                "Log out",
            ),
        };
        Words {
            title: "Mildam: confirm".to_owned(),
            heading,
            text,
            refuse: "Cancel".to_owned(),
            act: act.to_owned(),
        }
    }

    fn korean(&self) -> Words {
        let whose = |account: &Option<String>| {
            account.as_ref().map_or_else(|| "이 컴퓨터의".to_owned(), |account| format!("{account} 님의"))
        };
        let (heading, text, act) = match self {
            Self::ChangeUnlock { account, next: UnlockKind::Passphrase } => (
                "이 컴퓨터의 암호를 정할까요?".to_owned(),
                format!(
                    "앞으로 방금 입력한 암호로만 {} 대화를 열 수 있어요. 방금 암호를 입력하지 않았다면 \
                     취소하세요. 누군가 대화를 열지 못하게 하려는 것일 수 있어요.",
                    whose(account)
                ),
                "암호 정하기",
            ),
            Self::ChangeUnlock { account, next: UnlockKind::Keyring } => (
                "열쇠고리의 열쇠를 바꿀까요?".to_owned(),
                format!("앞으로 열쇠고리가 새 열쇠로 {} 대화를 열어요.", whose(account)),
                "열쇠 바꾸기",
            ),
            Self::Verify { account, number } => (
                format!("{account} 님을 비교한 사람으로 표시할까요?"),
                format!(
                    "{account} 님에게도 같은 번호가 보이고, 그것을 밀담이 아닌 다른 방법으로 확인했을 때만 \
                     표시하세요.\n\n{}",
                    in_lines(number)
                ),
                "비교했다고 표시",
            ),
            Self::TakeIdentity { account, known, offered } => (
                format!("{account} 님의 새 신원을 받아들일까요?"),
                format!(
                    "새 신원이라는 말을 {account} 님에게 직접 들었을 때만 받아들이세요. 기다리던 메시지가 \
                     새 신원으로 나가요.\n\n새 신원과의 안전 번호:\n{}\n\n알던 신원과의 안전 번호:\n{}",
                    in_lines(offered),
                    in_lines(known)
                ),
                "새 신원 받아들이기",
            ),
            Self::TakeServerKey { address, known, found } => (
                format!("{address} 서버의 새 열쇠를 받아들일까요?"),
                format!(
                    "서버를 운영하는 사람이 새 열쇠를 모두 확인해 주었을 때만 받아들이세요.\n\n\
                     새 열쇠:\n{}\n\n알고 있던 열쇠:\n{}",
                    in_groups(found),
                    in_groups(known)
                ),
                "새 열쇠 받아들이기",
            ),
            Self::EndSession { account, device } => (
                format!("{account} 님의 기기를 로그아웃할까요?"),
                format!(
                    "누군가 그 기기에서 비밀번호로 다시 로그인할 때까지 새 메시지를 받지 못해요.\n\n{}",
                    in_groups(device)
                ),
                "기기 로그아웃",
            ),
            Self::EraseNow { account } => (
                "옛 열쇠와 지운 메시지를 지금 없앨까요?".to_owned(),
                format!("{} 대화에서 지운 것은 되찾을 수 없어요.", whose(account)),
                "없애기",
            ),
            Self::LogOut { account } => (
                format!("이 컴퓨터에서 {account} 님을 로그아웃할까요?"),
                "여기 있는 대화는 남아요. 새 메시지는 비밀번호로 다시 로그인해야 받아요.".to_owned(),
                "로그아웃",
            ),
        };
        Words {
            title: "Mildam: 확인".to_owned(),
            heading,
            text,
            refuse: "취소".to_owned(),
            act: act.to_owned(),
        }
    }
}

/// The groups of a safety number, four in a line, as the window shows them.
fn in_lines(groups: &[String]) -> String {
    groups.chunks(4).map(|line| line.join(" ")).collect::<Vec<_>>().join("\n")
}

/// A fingerprint in groups of four, as the window shows it.
fn in_groups(fingerprint: &str) -> String {
    let letters: Vec<char> = fingerprint.chars().collect();
    letters.chunks(4).map(String::from_iter).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn questions() -> Vec<Question> {
        let number = |digit: &str| vec![digit.repeat(5); 12];
        let account = || "alice".to_owned();
        vec![
            Question::ChangeUnlock { account: Some(account()), next: UnlockKind::Passphrase },
            Question::ChangeUnlock { account: Some(account()), next: UnlockKind::Keyring },
            Question::Verify { account: account(), number: number("1") },
            Question::TakeIdentity { account: account(), known: number("1"), offered: number("2") },
            Question::TakeServerKey {
                address: "alice:1".to_owned(),
                known: "k".repeat(43),
                found: "f".repeat(43),
            },
            Question::EndSession { account: account(), device: "d".repeat(22) },
            Question::EraseNow { account: Some(account()) },
            Question::LogOut { account: account() },
        ]
    }

    #[test]
    fn every_question_says_whom_it_is_about() {
        for question in questions() {
            for language in [Some(Language::Korean), Some(Language::English), None] {
                let words = question.words(language);
                assert!(format!("{} {}", words.heading, words.text).contains("alice"), "{words:?}");
                assert_ne!(words.act, words.refuse);
            }
        }
    }

    #[test]
    fn what_is_to_be_compared_stands_in_groups() {
        let number: Vec<String> = (0..12).map(|at| format!("{at:05}")).collect();
        let question = Question::Verify { account: "bob".to_owned(), number };
        let text = question.words(Some(Language::English)).text;
        assert!(text.ends_with("00000 00001 00002 00003\n00004 00005 00006 00007\n00008 00009 00010 00011"));
        assert_eq!(in_groups("abcdefghij"), "abcd efgh ij");
    }

    #[test]
    fn an_unknown_language_gives_both() {
        let words = Question::LogOut { account: "alice".to_owned() }.words(None);
        assert_eq!((words.refuse.as_str(), words.act.as_str()), ("취소 / Cancel", "로그아웃 / Log out"));
    }
}
