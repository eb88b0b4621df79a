//! Secrets on their way into the vault and out of it, leaving no copies behind in memory.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::ops::Deref;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::KeyError;

/// Secret bytes: erased when dropped, never shown, base64url in JSON.
pub(crate) struct SecretBytes(Zeroizing<Vec<u8>>);

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

impl Deref for SecretBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(BASE64URL_NOPAD.encode(&self.0)))
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // From a slice of JSON the text is borrowed, since base64url needs no escapes.
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        BASE64URL_NOPAD
            .decode(text.as_bytes())
            .map(|bytes| Self(Zeroizing::new(bytes)))
            .map_err(|_| serde::de::Error::custom("not base64url without padding"))
    }
}

/// Counts what is written.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// JSON in one allocation of the right size: a buffer that grows would leave its smaller
/// predecessors in memory.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let failed = |_| KeyError::Primitive("encoding");
    let mut length = Length(0);
    serde_json::to_writer(&mut length, value).map_err(failed)?;
    let mut json = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *json, value).map_err(failed)?;
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_travel_as_base64url_and_show_nothing() {
        let secret = SecretBytes::from(&[0xfb, 0xff, 0][..]);
        let json = to_json(&secret).unwrap();
        assert_eq!(json.as_slice(), br#""-_8A""#);
        assert_eq!(json.capacity(), json.len());
        let read: SecretBytes = serde_json::from_slice(&json).unwrap();
        assert_eq!(&*read, &*secret);
        assert_eq!(format!("{secret:?}"), "SecretBytes(..)");
        assert!(serde_json::from_str::<SecretBytes>(r#""-_8A=""#).is_err());
    }
}
