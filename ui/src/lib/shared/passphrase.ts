/** What is wrong with a passphrase that somebody chose and typed twice, in words of the window. */
export function newPassphraseProblem(
  passphrase: string,
  repeat: string,
): 'unlock.short' | 'unlock.mismatch' | null {
  if ([...passphrase].length < 8) return 'unlock.short'
  return passphrase === repeat ? null : 'unlock.mismatch'
}
