import type { RoomView } from '../backend/views'

/** The room in which something arrived last comes first. The clocks of senders have no say in it. */
export function newestFirst(one: Pick<RoomView, 'order'>, two: Pick<RoomView, 'order'>): number {
  return two.order[0] - one.order[0] || two.order[1] - one.order[1]
}
