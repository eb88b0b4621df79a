// The error codes that the Rust side can give, read from its source.
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

function rustFiles(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    // Tests make up codes of their own.
    if (entry.name === 'tests' || entry.name === 'tests.rs') return []
    return entry.isDirectory() ? rustFiles(path) : path.endsWith('.rs') ? [path] : []
  })
}

const all = (text, pattern) => [...text.matchAll(pattern)].map((match) => match[1])

/** Codes that stand where an error is made: `Error::new("code", …)`, `code: "code".to_owned()`. */
export function madeCodes(source) {
  const text = source.split(/#\[cfg\(test\)\]\s*mod \w+ \{/)[0]
  return [
    ...all(text, /\b(?:Error|CommandError|Self)::new\(\s*"([a-z][a-z_]*)"\s*,/g),
    ...all(text, /\bcode: "([a-z][a-z_]*)"\.(?:to_owned|into|to_string)\(\)/g),
  ]
}

/** Codes of the vault: the arms of `code()`. */
export function vaultCodes(source) {
  const table = /fn code\(&self\) -> &'static str \{[\s\S]*?\n {4}\}/.exec(source)?.[0] ?? ''
  return all(table, /"([a-z][a-z_]*)"/g)
}

/** The relay's codes, by the name of their variant. */
export function relayCodes(source) {
  const pairs = source.matchAll(/^\s+([A-Z]\w*) = "([a-z][a-z_]*)", (?:Invalid|Fail);/gm)
  return new Map([...pairs].map((match) => [match[1], match[2]]))
}

/** What the client makes of the relay's codes: some become others, the rest stay as they are. */
export function refusalCodes(source, relay) {
  const table = /match refusal\.code \{[\s\S]*?other => other\.as_str\(\)/.exec(source)?.[0] ?? ''
  const replaced = new Set(all(table, /Code::(\w+)/g))
  const kept = [...relay].filter(([name]) => !replaced.has(name)).map(([, code]) => code)
  return [...all(table, /=> "([a-z][a-z_]*)"/g), ...kept]
}

/** All codes of the project in a folder, with where they come from. */
export function codesOf(project) {
  const read = (path) => readFileSync(join(project, path), 'utf8')
  const made = (folder) =>
    rustFiles(join(project, folder)).flatMap((path) => madeCodes(readFileSync(path, 'utf8')))
  const relay = relayCodes(read('crates/protocol/src/code.rs'))
  const sources = {
    'crates/client/src': made('crates/client/src'),
    'src-tauri': made('src-tauri'),
    'crates/vault/src/error.rs': vaultCodes(read('crates/vault/src/error.rs')),
    'crates/protocol/src/code.rs': [...relay.values()],
    'crates/client/src/error.rs': refusalCodes(read('crates/client/src/error.rs'), relay),
  }
  // A place that has changed its form would be read as one that gives no codes.
  for (const [place, codes] of Object.entries(sources)) {
    if (codes.length === 0) throw new Error(`no codes were found in ${place}`)
  }
  delete sources['crates/protocol/src/code.rs']
  return [...new Set(Object.values(sources).flat())].sort()
}
