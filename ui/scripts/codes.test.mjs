import { expect, test } from 'vitest'

import { madeCodes, refusalCodes, relayCodes, vaultCodes } from './codes.mjs'

test('codes are read where an error is made, but not in tests', () => {
  const source = `
    return Err(Error::new("forbidden", "A room needs somebody else."));
    Error::new(
        "bad_account",
        "An id has 3 to 32 characters",
    )
    Self { code: "locked".to_owned(), message: String::new() }
    io::Error::new(io::ErrorKind::InvalidData, "no header")
    #[cfg(test)]
    mod tests {
        Error::new("made_up", "");
    }`
  expect(madeCodes(source)).toEqual(['forbidden', 'bad_account', 'locked'])
})

test('codes are read from the tables', () => {
  const relay = relayCodes(`
    /// Words.
    Stale = "stale", Invalid;
    Draining = "draining", Fail;
    NotFound = "not_found", Invalid;
`)
  expect([...relay.values()]).toEqual(['stale', 'draining', 'not_found'])
  const table = `let code = match refusal.code {
            Code::Draining
            | Code::Unknown => "busy",
            other => other.as_str(),
        };`
  expect(refusalCodes(table, relay)).toEqual(['busy', 'stale', 'not_found'])
  const vault = `
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Locked => "vault_locked",
            Self::A | Self::B(_) => {
                "internal"
            }
        }
    }`
  expect(vaultCodes(vault)).toEqual(['vault_locked', 'internal'])
})
