//! What two processes of one account say to each other: JSON documents, each behind its length.
//!
//! ```text
//! frame    = length of the document in bytes, u32 big-endian | the document
//! guest -> host   {"version":1,"args":["send","ROOM","hello"],"json":true,"stdin":null,"passphrase":"..."}
//! host -> guest   {"out":"a line"}*  {"err":"a line"}*  in the order in which they were printed, then {"exit":0}
//! ```

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::output::{Failure, Line};

/// The version of these documents.
pub(crate) const VERSION: u32 = 1;
/// How long a request may be, in bytes.
pub(crate) const MAX_REQUEST: u32 = 1024 * 1024;
/// How long one line of an answer may be, in bytes: it comes from one's own process.
pub(crate) const MAX_ANSWER: u32 = 64 * 1024 * 1024;

/// What a guest asks for.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Request {
    pub(crate) version: u32,
    /// Its command line, without the program's name.
    pub(crate) args: Vec<String>,
    /// Whether it answers in JSON.
    pub(crate) json: bool,
    /// What was read from its standard input, if the command reads it.
    pub(crate) stdin: Option<String>,
    /// What opens the vault; none for the system's keyring.
    pub(crate) passphrase: Option<String>,
}

/// What every version of a request has.
#[derive(Default, Deserialize)]
struct Head {
    version: u32,
    #[serde(default)]
    json: bool,
}

impl Request {
    /// Reads one; a failure comes with whether it is to be told in JSON.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, (Failure, bool)> {
        let head: Head = serde_json::from_slice(bytes).unwrap_or_default();
        if head.version != VERSION {
            return Err((Failure::other_version(), head.json));
        }
        serde_json::from_slice(bytes).map_err(|error| {
            (Failure::Usage(format!("the request to the process that has this vault: {error}")), head.json)
        })
    }

    pub(crate) fn to_bytes(&self) -> io::Result<Zeroizing<Vec<u8>>> {
        Ok(Zeroizing::new(serde_json::to_vec(self)?))
    }
}

/// One document of an answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    /// Something that the command printed.
    Line(Line),
    /// The last one.
    Exit { exit: u8 },
}

/// Reads one document of at most `limit` bytes.
pub(crate) async fn read<R: AsyncRead + Unpin>(from: &mut R, limit: u32) -> io::Result<Zeroizing<Vec<u8>>> {
    let length = from.read_u32().await?;
    if length > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a document that is too long"));
    }
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut bytes = Zeroizing::new(vec![0; length]);
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Writes one document.
pub(crate) async fn write<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> io::Result<()> {
    to.write_u32(u32::try_from(bytes.len()).map_err(io::Error::other)?).await?;
    to.write_all(bytes).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_the_documented_shape() {
        let request = br#"{"version":1,"args":["sync"],"json":true,"stdin":null,"passphrase":"p"}"#;
        let parsed = Request::parse(request).ok().unwrap();
        assert_eq!((parsed.args.as_slice(), parsed.json), (["sync".to_owned()].as_slice(), true));
        assert_eq!(parsed.to_bytes().unwrap().as_slice(), request);
        let answers = [
            (Answer::Line(Line::Out("a".to_owned())), r#"{"out":"a"}"#),
            (Answer::Line(Line::Err("b".to_owned())), r#"{"err":"b"}"#),
            (Answer::Exit { exit: 3 }, r#"{"exit":3}"#),
        ];
        for (answer, json) in answers {
            assert_eq!(serde_json::to_string(&answer).unwrap(), json);
            assert_eq!(serde_json::from_str::<Answer>(json).unwrap(), answer);
        }
    }

    #[test]
    fn another_version_is_told_apart_from_nonsense() {
        let newer = Request::parse(br#"{"version":2,"json":true,"what":[]}"#).err().unwrap();
        assert!(matches!(newer, (Failure::Host { code: "other_version", .. }, true)));
        let nonsense = Request::parse(br#"{"version":1,"args":"sync"}"#).err().unwrap();
        assert!(matches!(nonsense, (Failure::Usage(_), false)));
    }

    #[tokio::test]
    async fn a_document_that_is_too_long_is_not_read() {
        let mut bytes = Vec::new();
        write(&mut bytes, b"12345").await.unwrap();
        assert_eq!(bytes, b"\0\0\0\x0512345");
        assert_eq!(read(&mut bytes.as_slice(), 5).await.unwrap().as_slice(), b"12345");
        let error = read(&mut bytes.as_slice(), 4).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
