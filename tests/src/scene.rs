//! A relay and the people who use it, in a folder that goes away with them.

use anyhow::Result;
use tempfile::TempDir;

use crate::{Person, Relay};

/// A relay with an empty folder, and a place for the homes of people.
#[derive(Debug)]
pub struct Scene {
    /// The relay.
    pub relay: Relay,
    folder: TempDir,
}

impl Scene {
    /// Starts the relay, where everybody can sign up.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start() -> Result<Self> {
        Self::start_for("open")
    }

    /// Starts a relay where only those can sign up whom `serve --sign-up` lets in.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_for(sign_up: &'static str) -> Result<Self> {
        let folder = TempDir::with_prefix("mildam-")?;
        Ok(Self { relay: Relay::start_for(&folder.path().join("relay"), sign_up)?, folder })
    }

    /// Somebody without an account.
    #[must_use]
    pub fn stranger(&self, account: &str) -> Person {
        Person::new(account, self.folder.path().join(account))
    }

    /// Alice, signed up.
    ///
    /// # Errors
    /// If the relay refuses her.
    pub fn alice(&self) -> Result<Person> {
        self.person("alice")
    }

    /// Bob, signed up.
    ///
    /// # Errors
    /// If the relay refuses him.
    pub fn bob(&self) -> Result<Person> {
        self.person("bob")
    }

    /// Carol, signed up.
    ///
    /// # Errors
    /// If the relay refuses her.
    pub fn carol(&self) -> Result<Person> {
        self.person("carol")
    }

    fn person(&self, account: &str) -> Result<Person> {
        let person = self.stranger(account);
        person.sign_up(self.relay.link())?;
        Ok(person)
    }

    /// Makes two people friends.
    ///
    /// # Errors
    /// If the relay refuses it.
    pub fn befriend(&self, one: &Person, other: &Person) -> Result<()> {
        one.done(&["friend", "request", other.account()])?;
        other.done(&["friend", "accept", one.account()])?;
        Ok(())
    }
}
