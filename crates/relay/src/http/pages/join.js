// The part behind # reaches no server: this script, in the visitor's browser, makes the link of it that
// opens Mildam.
// The fingerprint, and then an account, a token behind nobody or somebody, or nothing.
const invitation = /^#([\w-]{43}(?:\/(?:[a-z][a-z0-9_.]{2,31})?\/[\w-]{22}|\/[a-z][a-z0-9_.]{2,31})?)$/

function show() {
  const found = invitation.exec(location.hash)
  document.getElementById('invitation').hidden = !found
  document.getElementById('incomplete').hidden = Boolean(found)
  const language = document.getElementById('language')
  language.hash = location.hash
  if (!found) return
  const [, account] = found[1].split('/')
  const link = `mildam://${location.hostname}:${location.port || '443'}/#${found[1]}`
  document.getElementById('open').href = link
  document.getElementById('link').value = link
  const inviter = document.getElementById('inviter')
  inviter.hidden = !account
  inviter.firstElementChild.textContent = account ?? ''
}

async function copy(event) {
  const button = event.currentTarget
  const link = document.getElementById('link')
  link.select()
  try {
    await navigator.clipboard.writeText(link.value)
    button.textContent = button.dataset.done
  } catch {
    // It is selected: the keyboard copies it.
  }
}

addEventListener('hashchange', show)
document.getElementById('copy').addEventListener('click', copy)
show()
