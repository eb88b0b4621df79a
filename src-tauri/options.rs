//! Where this run's data lies.

use std::path::PathBuf;

/// What the command line and the environment say.
pub(crate) struct Options {
    /// The folder of the account; none for the operating system's place for it.
    pub(crate) home: Option<PathBuf>,
    /// The profile's name; accounts of different profiles run side by side.
    pub(crate) profile: String,
}

impl Options {
    /// Reads `--profile NAME`, and `MILDAM_HOME`. Other arguments are left to the system.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut profile = "default".to_owned();
        while let Some(argument) = arguments.next() {
            if argument == "--profile" {
                profile = arguments.next().ok_or("--profile needs a name")?;
            } else if let Some(name) = argument.strip_prefix("--profile=") {
                name.clone_into(&mut profile);
            }
        }
        let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        if profile.is_empty() || profile.len() > 64 || !profile.chars().all(allowed) {
            return Err("a profile's name has letters, digits, - and _, at most 64 bytes".to_owned());
        }
        let home = std::env::var_os("MILDAM_HOME").map(PathBuf::from);
        Ok(Self { home, profile })
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
}
