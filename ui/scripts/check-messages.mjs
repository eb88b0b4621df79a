// Finds strings that one language lacks, and strings that nothing uses.
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

const folder = new URL('../src/', import.meta.url).pathname

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
]
for (const problem of problems) console.error(problem)
console.log(`messages: ${en.length} in en, ${ko.length} in ko, ${problems.length} problems`)
process.exit(problems.length > 0 ? 1 : 0)
