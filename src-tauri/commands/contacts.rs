//! Whose keys are whose.

use mildam_client::{Client, ContactView, SafetyNumberView, TrustView};
use tauri::{AppHandle, State};

use super::Answer;
use crate::app::{CommandError, Shell};
use crate::confirm::Turn;
use crate::question::Question;

#[tauri::command]
pub(crate) async fn contact(shell: State<'_, Shell>, account: String) -> Answer<ContactView> {
    Ok(shell.client().await?.contact(&account).await?)
}

/// Whoever trusts somebody less is not asked.
#[tauri::command]
pub(crate) async fn set_verified(
    app: AppHandle,
    shell: State<'_, Shell>,
    account: String,
    verified: bool,
) -> Answer<ContactView> {
    let client = shell.client().await?;
    if !verified {
        return Ok(client.set_verified(&account, false).await?);
    }
    let turn = shell.turn()?;
    let known = client.contact(&account).await?;
    ask_to_verify(&app, &turn, &client, known).await?;
    Ok(client.set_verified(&account, true).await?)
}

#[tauri::command]
pub(crate) async fn compare_safety_number(
    app: AppHandle,
    shell: State<'_, Shell>,
    account: String,
    text: String,
) -> Answer<ContactView> {
    let client = shell.client().await?;
    // While it is held, the known identity stays the same, and with it the number.
    let turn = shell.turn()?;
    let known = client.contact(&account).await?;
    if !surely_differs(&known.safety_number, &text) {
        ask_to_verify(&app, &turn, &client, known).await?;
    }
    Ok(client.compare_safety_number(&account, &text).await?)
}

/// What the picture shows, only the client finds out, and then marks: so the person is asked before.
#[tauri::command]
pub(crate) async fn compare_picture(
    app: AppHandle,
    shell: State<'_, Shell>,
    account: String,
    picture: Vec<u8>,
) -> Answer<ContactView> {
    let client = shell.client().await?;
    let turn = shell.turn()?;
    let known = client.contact(&account).await?;
    ask_to_verify(&app, &turn, &client, known).await?;
    Ok(client.compare_picture(&account, picture).await?)
}

/// Taking another identity asks the person; keeping the known one does not.
#[tauri::command]
pub(crate) async fn decide_identity(
    app: AppHandle,
    shell: State<'_, Shell>,
    account: String,
    accept: bool,
) -> Answer<ContactView> {
    let client = shell.client().await?;
    if !accept {
        return Ok(client.decide_identity(&account, false).await?);
    }
    let turn = shell.turn()?;
    let ContactView { account, safety_number, offered, .. } = client.contact(&account).await?;
    // What is not offered now might be a moment later, and would be taken without a question.
    let Some(offered) = offered else {
        return Err(CommandError::new("not_found", "This contact's identity has not changed."));
    };
    let question = Question::TakeIdentity {
        account: account.clone(),
        known: safety_number.groups,
        offered: offered.groups.clone(),
    };
    turn.ask(&app, question).await?;
    if client.contact(&account).await?.offered.as_ref() != Some(&offered) {
        return Err(stale());
    }
    let taken = client.decide_identity(&account, true).await?;
    // The server may have shown yet another one at the last moment. It counts as not compared.
    if taken.safety_number == offered { Ok(taken) } else { Err(stale()) }
}

/// Asks, unless the contact is marked already.
async fn ask_to_verify(app: &AppHandle, turn: &Turn<'_>, client: &Client, known: ContactView) -> Answer<()> {
    if known.trust == TrustView::Verified {
        return Ok(());
    }
    let ContactView { account, safety_number, .. } = known;
    let question = Question::Verify { account: account.clone(), number: safety_number.groups.clone() };
    turn.ask(app, question).await?;
    if client.contact(&account).await?.safety_number == safety_number { Ok(()) } else { Err(stale()) }
}

/// Another process of this account, or the server, has changed what the person was asked about.
fn stale() -> CommandError {
    CommandError::new("stale", "Something has changed in the meantime.")
}

/// Whether a text is surely not this number, so that comparing the two marks nobody. The client finds digits
/// in more than ASCII: of any other text nothing is sure.
fn surely_differs(number: &SafetyNumberView, text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    text.is_ascii() && digits != number.groups.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_surely_differs_is_compared_unasked() {
        let groups = vec!["12345".to_owned(); 12];
        let number = SafetyNumberView { groups, qr_path: String::new(), qr_size: 0 };
        let same = "12345 ".repeat(12);
        assert!(!surely_differs(&number, &same));
        assert!(!surely_differs(&number, &same.replace(' ', "-\n")));
        assert!(!surely_differs(&number, &same.replace('1', "１")));
        // Whatever becomes a digit when it is read: U+33E0, the sign of a first day, becomes 1 and a word.
        assert!(!surely_differs(&number, &same.replace('1', "\u{33e0}")));
        assert!(surely_differs(&number, &same.replace('1', "2")));
        assert!(surely_differs(&number, &same[1..]));
        assert!(surely_differs(&number, ""));
    }
}
