//! Where this run's data lies, and what it is to open.

use std::path::PathBuf;

/// What the command line and the environment say.
pub(crate) struct Options {
    /// The folder of the account; none for the operating system's place for it.
    pub(crate) home: Option<PathBuf>,
    /// The profile's name; accounts of different profiles run side by side.
    pub(crate) profile: String,
    /// A link to open.
    pub(crate) link: Option<String>,
}

/// The profile of those who name none.
const DEFAULT: &str = "default";

impl Options {
    /// Reads `--profile NAME`, a link, and `MILDAM_HOME`. Other arguments are left to the system.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut profile = DEFAULT.to_owned();
        let mut link = None;
        while let Some(argument) = arguments.next() {
            if argument == "--profile" {
                profile = arguments.next().ok_or("--profile needs a name")?;
            } else if let Some(name) = argument.strip_prefix("--profile=") {
                name.clone_into(&mut profile);
            } else if argument.starts_with("mildam:") || argument.starts_with("https:") {
                link = Some(argument);
            }
        }
        let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        if profile.is_empty() || profile.len() > 64 || !profile.chars().all(allowed) {
            return Err("a profile's name has letters, digits, - and _, at most 64 bytes".to_owned());
        }
        let home = std::env::var_os("MILDAM_HOME").map(PathBuf::from);
        Ok(Self { home, profile, link })
    }

    /// Whether this is the account that the system's links are for.
    pub(crate) fn is_default(&self) -> bool {
        self.home.is_none() && self.profile == DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(arguments: &[&str]) -> Result<String, String> {
        Options::read(arguments.iter().map(ToString::to_string)).map(|options| options.profile)
    }

    #[test]
    fn a_profile_is_a_plain_name() {
        assert_eq!(profile(&[]), Ok("default".to_owned()));
        assert_eq!(profile(&["--profile", "alice"]), Ok("alice".to_owned()));
        assert_eq!(profile(&["--profile=회사"]), Ok("회사".to_owned()));
        assert!(profile(&["--profile"]).is_err());
        assert!(profile(&["--profile", "../evil"]).is_err());
        assert!(profile(&["--profile", ""]).is_err());
    }
    #[test]
    fn a_link_may_stand_among_other_arguments() {
        let link = |arguments: &[&str]| {
            Options::read(arguments.iter().map(ToString::to_string)).map(|options| options.link)
        };
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(link(&[]), Ok(None));
        assert_eq!(link(&["mildam://host:1/#fp"]), some("mildam://host:1/#fp"));
        assert_eq!(link(&["--profile", "a", "https://host/join#fp/bob"]), some("https://host/join#fp/bob"));
        assert_eq!(link(&["--profile", "mildam", "file:///etc/passwd", "-x"]), Ok(None));
    }
}
