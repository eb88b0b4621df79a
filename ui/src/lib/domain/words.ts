import type { MessageView } from '../backend/views'
import { i18n, t } from '../i18n/i18n.svelte'
import { messenger } from '../state/messenger.svelte'

/** A line that is no text, in words. */
export function noticeOf(message: MessageView): string {
  const name = messenger.nickname(message.from)
  switch (message.content.kind) {
    case 'text':
      return message.content.text
    case 'room_created':
      return t('notice.created', { name })
    case 'members_added': {
      const others = message.content.accounts.map((account) => messenger.nickname(account))
      return t('notice.added', { name, others: i18n.list(others) })
    }
    case 'member_left':
      return t('notice.left', { name })
    case 'member_removed':
      return t('notice.removed', { name, other: messenger.nickname(message.content.account) })
    case 'before_device':
      return t('notice.beforeDevice')
    case 'refused':
      return t('notice.refused', { name, code: message.content.code })
    case 'needs_newer_version':
    default:
      return t('notice.newer', { name })
  }
}
