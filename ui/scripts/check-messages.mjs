// Finds strings that one language lacks, strings that nothing uses, and error codes without words.
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { codesOf } from './codes.mjs'

const folder = fileURLToPath(new URL('../src/', import.meta.url))
const project = fileURLToPath(new URL('../../', import.meta.url))

function files(dir) {
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name)
    return entry.isDirectory() ? files(path) : /\.(ts|svelte)$/.test(path) ? [path] : []
  })
}

function keys(language) {
  const text = readFileSync(join(folder, `lib/i18n/${language}.ts`), 'utf8')
  return [...text.matchAll(/^\s{2}'?([\w.]+)'?:/gm)].map((match) => match[1])
}

const source = files(folder)
  .filter((path) => !/i18n\/(en|ko)\.ts$/.test(path))
  .map((path) => readFileSync(path, 'utf8'))
  .join('\n')
const [en, ko] = [keys('en'), keys('ko')]
const codes = codesOf(project)
const problems = [
  ...en.filter((key) => !ko.includes(key)).map((key) => `ko lacks ${key}`),
  ...ko.filter((key) => !en.includes(key)).map((key) => `en lacks ${key}`),
  ...en
    .filter(
      (key) =>
        !source.includes(`'${key}'`) &&
        !/^(error|state|step|role|refused|alarm|wordlist|protects)\./.test(key),
    )
    .map((key) => `nothing uses ${key}`),
  ...codes
    .filter((code) => !en.includes(`error.${code}`))
    .map((code) => `nothing says what the error code ${code} means`),
]
for (const problem of problems) console.error(problem)
console.log(
  `messages: ${en.length} in en, ${ko.length} in ko, ${codes.length} codes, ${problems.length} problems`,
)
process.exit(problems.length > 0 ? 1 : 0)
