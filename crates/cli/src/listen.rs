//! `listen`: events until stopped.

use mildam_client::{Client, Event, EventStream, MessageState};
use serde_json::json;

use crate::output::{Failure, Output, message_json};

/// Prints events until SIGINT or SIGTERM.
pub(crate) async fn listen(client: &Client, mut events: EventStream, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        // The first line says that from here on nothing is missed.
        let state = client.state().await?;
        output.json(&json!({"event": "state", "state": state}))?;
    }
    let stop = stopped();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            event = events.next() => match event {
                Some(event) => {
                    tell(&event, output)?;
                    if output.is_gone() {
                        return Ok(());
                    }
                }
                None => return Ok(()),
            },
        }
    }
}

fn tell(event: &Event, output: &Output) -> Result<(), Failure> {
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

async fn stopped() {
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
