//! Texts that people enter.

use mildam_protocol::command::{MAX_EMAIL, MAX_GREETING, MAX_NICKNAME};
use mildam_protocol::records::text::is_name;
use mildam_protocol::{Code, Refusal};

use super::require;

/// Checks an e-mail address for its shape and gives the form in which two are compared: lower
/// case, without white space around it.
///
/// # Errors
/// [`Code::BadEmail`].
pub fn email(text: &str) -> Result<String, Refusal> {
    let address = text.trim().to_lowercase();
    let parts = address.rsplit_once('@');
    let plain = |c: char| !c.is_whitespace() && !c.is_control();
    let domain = |domain: &str| {
        !domain.is_empty()
            && !domain.contains('@')
            && domain
                .split('.')
                .all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
    };
    let shaped = address.len() <= MAX_EMAIL
        && address.chars().all(plain)
        && parts.is_some_and(|(local, host)| !local.is_empty() && !local.contains('@') && domain(host));
    require(shaped, Code::BadEmail, "this is not an e-mail address")?;
    Ok(address)
}

/// Checks a nickname.
///
/// # Errors
/// [`Code::TooLarge`] or [`Code::Malformed`].
pub fn nickname(text: &str) -> Result<(), Refusal> {
    require(text.len() <= MAX_NICKNAME, Code::TooLarge, "a nickname may have at most 120 bytes")?;
    // None is as good as the id.
    let named = text.is_empty() || is_name(text);
    require(named, Code::Malformed, "a nickname is one line, with something to see in it")
}

/// Checks a greeting.
///
/// # Errors
/// [`Code::TooLarge`].
pub fn greeting(text: &str) -> Result<(), Refusal> {
    require(text.len() <= MAX_GREETING, Code::TooLarge, "a greeting may have at most 600 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    // REQ A1
    #[test]
    fn addresses_that_mean_the_same_compare_equal() {
        assert_eq!(email(" Alice@Example.ORG\n").unwrap(), "alice@example.org");
        assert_eq!(email("a@localhost").unwrap(), "a@localhost");
        assert_eq!(email("한글@밀담.한국").unwrap(), "한글@밀담.한국");
        let long = format!("{}@example.org", "a".repeat(MAX_EMAIL));
        for bad in ["", "@", "a@", "@b", "a b@c", "a@b@c", "a@b..c", "a@-b", "a@b\u{0}", "a@.b", &long] {
            assert_eq!(email(bad).unwrap_err().code, Code::BadEmail, "{bad}");
        }
    }

    #[test]
    fn lengths_have_borders() {
        assert!(nickname("").is_ok() && nickname(&"x".repeat(MAX_NICKNAME)).is_ok());
        assert!(nickname("\u{3164}").is_err() && nickname("\u{202e}bob").is_err());
        assert!(nickname("a\nb").is_err() && nickname(&"x".repeat(MAX_NICKNAME + 1)).is_err());
        assert!(greeting(&"x".repeat(MAX_GREETING)).is_ok());
        assert!(greeting(&"x".repeat(MAX_GREETING + 1)).is_err());
    }
}
