//! `listen`: events until stopped.

use mildam_client::{Client, Event, EventStream, MessageState};
use serde_json::json;

use crate::output::{Failure, Output, message_json};
use crate::printer::Printer;

/// Prints events until nobody reads them.
pub(crate) async fn listen(client: &Client, mut events: EventStream, json: bool) -> Result<(), Failure> {
    let (page, mut printer) = (Output::kept(json), Printer::new());
    if json {
        tell_state(client, &page).await?;
        printer.print(&page).await?;
    }
    while let Some(event) = events.next().await {
        tell(&event, &page)?;
        printer.print(&page).await?;
        if printer.is_gone() {
            break;
        }
    }
    Ok(())
}

/// The first line says that from here on nothing is missed.
pub(crate) async fn tell_state(client: &Client, output: &Output) -> Result<(), Failure> {
    let state = client.state().await?;
    output.json(&json!({"event": "state", "state": state}))
}

pub(crate) fn tell(event: &Event, output: &Output) -> Result<(), Failure> {
    match event {
        Event::Message { message } if output.is_json() => {
            let mut line = message_json(message);
            if let Some(fields) = line.as_object_mut() {
                fields.insert("event".to_owned(), "message".into());
            }
            output.json(&line)
        }
        Event::Message { message } if message.state == MessageState::Received => output.message(message),
        Event::Presence { presence } if !output.is_json() && presence.visible => {
            output.line(&format!("-- online: {}", presence.online.join(", ")))
        }
        Event::Typing { room, account } if !output.is_json() => {
            output.line(&format!("-- {account} is writing in {room}"))
        }
        event if output.is_json() => output.show(event, String::new),
        _ => Ok(()),
    }
}

/// Ends at SIGINT or SIGTERM.
pub(crate) async fn stopped() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
