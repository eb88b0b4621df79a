//! Where most stories begin.

use std::path::PathBuf;

use anyhow::Result;
use mildam_tests::{Person, Scene};

use crate::desktop::Desktop;
use crate::story::screenshots;

/// Alice and Bob are friends, and Bob has said something to her. No window is open yet.
pub struct Greeted {
    pub scene: Scene,
    pub desktop: Desktop,
    pub alice: Person,
    pub bob: Person,
    /// The room of the two.
    pub room: String,
    /// Where pictures go.
    pub pictures: PathBuf,
}

impl Greeted {
    pub fn start(greeting: &str) -> Result<Self> {
        let scene = Scene::start()?;
        let desktop = Desktop::start()?;
        let (alice, bob) = (scene.alice()?, scene.bob()?);
        scene.befriend(&alice, &bob)?;
        let room = bob.direct(&alice)?;
        bob.done(&["send", &room, greeting])?;
        Ok(Self { scene, desktop, alice, bob, room, pictures: screenshots()? })
    }
}
