//! A relay that is killed on the way through a change of an account's devices.

use mildam_protocol::command::{Command, DevicesSet, RoomList};
use mildam_protocol::records::{AccountKeys, DeviceList};
use mildam_protocol::{Code, Refusal};
use tempfile::TempDir;

use crate::client::Client;
use crate::person::{Person, account, code, new_device, password};
use crate::program::{Program, data};

const NEW_PASSWORD: &str = "a password after the loss";

/// Moments of a kill. From one to the next, twice as much time passes for the relay.
const MOMENTS: usize = 8;

/// A relay that can be killed, and Bob, who looks on.
struct Scene {
    data: TempDir,
    program: Program,
    bob: Person,
}

impl Scene {
    /// Gives Alice along, a friend of Bob's.
    async fn begin() -> (Self, Person) {
        let data = data();
        let program = Program::start(data.path()).await;
        let (mut alice, mut bob) = (program.connect("alice").await, program.connect("bob").await);
        for person in [&mut alice, &mut bob] {
            person.sign_up().await.unwrap();
            person.attach().await.unwrap();
        }
        alice.befriend(&mut bob).await;
        (Self { data, program, bob }, alice)
    }

    /// Sends a request and kills the relay without having read the answer: sooner or later.
    async fn kill_upon<C: Command>(&mut self, client: &mut Client, command: &C, moment: usize) {
        client.send(command).await;
        // Reading goes on beside the writing: the relay's time is told by what it answers.
        for _ in 1..1 << moment {
            self.bob.client.ask(&RoomList {}).await.unwrap();
        }
        self.kill().await;
    }

    /// Kills the relay and starts it again; Bob goes on.
    async fn kill(&mut self) {
        self.program.child.kill().await.unwrap();
        self.program = Program::start(self.data.path()).await;
        let session = self.bob.client.session.take();
        self.bob.client = self.program.client().await;
        self.bob.client.session = session;
        self.bob.attach().await.unwrap();
    }

    /// Alice's keys, as others get them.
    async fn keys(&mut self) -> AccountKeys {
        let keys = self.bob.update(&account("alice")).await;
        keys.verify().unwrap();
        keys
    }
}

/// What a session is good for after a kill.
async fn session_of(program: &Program, person: &mut Person) -> Result<(), Refusal> {
    let session = person.client.session.take();
    person.client = program.client().await;
    person.client.session = session;
    person.attach().await.map(drop)
}

/// Whether a device gets in with a password.
async fn password_of(program: &Program, person: &mut Person, password: &str) -> Result<(), Refusal> {
    person.client = program.client().await;
    person.log_in_with(password).await
}

// REQ S1, A4
#[tokio::test]
async fn a_kill_between_the_steps_of_a_recovery_leaves_the_account_as_it_was() {
    let (mut scene, mut alice) = Scene::begin().await;
    let before = scene.keys().await;
    let mut again = scene.program.connect("alice").await.at(new_device(&account("alice")));
    let command = again.recover_command(NEW_PASSWORD).await;
    scene.kill().await;
    assert_eq!(scene.keys().await, before);
    session_of(&scene.program, &mut alice).await.unwrap();
    password_of(&scene.program, &mut alice, &password("alice")).await.unwrap();
    // The first step belonged to the connection. After another one the same list will do.
    again.client = scene.program.client().await;
    assert_eq!(code(again.client.ask(&command).await), Code::WrongWords);
    let next = again.recover_command(NEW_PASSWORD).await;
    let command = again.recover_with(next.password, command.device_list);
    again.client.ask(&command).await.unwrap();
    let keys = scene.keys().await;
    assert_eq!(keys.lists.last(), Some(&command.device_list));
    // What was acknowledged outlives the next kill.
    scene.kill().await;
    assert_eq!(scene.keys().await, keys);
    password_of(&scene.program, &mut again, NEW_PASSWORD).await.unwrap();
    assert_eq!(code(session_of(&scene.program, &mut alice).await), Code::SessionRevoked);
}

// REQ S1, A4
#[tokio::test]
async fn a_kill_during_a_recovery_leaves_all_of_it_or_nothing() {
    let (mut scene, mut alice) = Scene::begin().await;
    let mut old_password = password("alice");
    for moment in 0..MOMENTS {
        let before = scene.keys().await;
        let new_password = format!("{NEW_PASSWORD} {moment}");
        let mut again = scene.program.connect("alice").await.at(new_device(&account("alice")));
        let command = again.recover_command(&new_password).await;
        scene.kill_upon(&mut again.client, &command, moment).await;

        let after = scene.keys().await;
        if after == before {
            session_of(&scene.program, &mut alice).await.unwrap();
            assert_eq!(
                code(password_of(&scene.program, &mut alice, &new_password).await),
                Code::WrongCredentials
            );
            password_of(&scene.program, &mut alice, &old_password).await.unwrap();
        } else {
            assert_eq!(after.lists.last(), Some(&command.device_list), "moment {moment}");
            assert_eq!(after.prekeys, std::slice::from_ref(&command.prekey), "moment {moment}");
            assert_eq!(code(session_of(&scene.program, &mut alice).await), Code::SessionRevoked);
            assert_eq!(
                code(password_of(&scene.program, &mut alice, &old_password).await),
                Code::WrongCredentials
            );
            password_of(&scene.program, &mut again, &new_password).await.unwrap();
        }
        // The answer was lost either way: the same list again, once more with the words.
        again.client = scene.program.client().await;
        let next = again.recover_command(&new_password).await;
        let resent = again.recover_with(next.password, command.device_list.clone());
        again.client.session = Some(again.client.ask(&resent).await.unwrap().session);
        again.attach().await.unwrap();
        assert_eq!(scene.keys().await.lists.len(), before.lists.len() + 1);
        password_of(&scene.program, &mut again, &new_password).await.unwrap();
        (alice, old_password) = (again, new_password);
    }
}

// REQ S1, A5
#[tokio::test]
async fn a_kill_during_a_change_of_devices_leaves_all_of_it_or_nothing() {
    let (mut scene, mut alice) = Scene::begin().await;
    let mut list: DeviceList = alice.keys.lists[0].clone();
    for moment in 0..MOMENTS {
        // A second device comes, with a session and a prekey, and is taken off again.
        session_of(&scene.program, &mut alice).await.unwrap();
        let secrets = new_device(&alice.account);
        let both = alice.list_of(&list, &[&alice.secrets, &secrets]);
        alice.client.ask(&both).await.unwrap();
        let mut phone = scene.program.connect("alice").await.at(secrets);
        phone.log_in().await.unwrap();
        let prekey = phone.prekey_of(phone.secrets.signed_prekey().unwrap().created_at);
        phone.client.ask(&prekey).await.unwrap();
        let with_phone = scene.keys().await;
        assert_eq!(with_phone.prekeys.len(), 2);

        let DevicesSet { device_list: without } = alice.list_of(&both.device_list, &[&alice.secrets]);
        let command = DevicesSet { device_list: without.clone() };
        scene.kill_upon(&mut alice.client, &command, moment).await;

        let after = scene.keys().await;
        if after == with_phone {
            session_of(&scene.program, &mut phone).await.unwrap();
        } else {
            assert_eq!(after.lists.last(), Some(&without), "moment {moment}");
            assert_eq!(after.prekeys, alice.keys.prekeys, "moment {moment}");
            assert_eq!(code(session_of(&scene.program, &mut phone).await), Code::SessionRevoked);
        }
        session_of(&scene.program, &mut alice).await.unwrap();
        alice.client.ask(&command).await.unwrap();
        assert_eq!(scene.keys().await.lists.len(), with_phone.lists.len() + 1);
        assert_eq!(code(session_of(&scene.program, &mut phone).await), Code::SessionRevoked);
        assert_eq!(
            code(password_of(&scene.program, &mut phone, &password("alice")).await),
            Code::DeviceUnknown
        );
        list = without;
    }
}
