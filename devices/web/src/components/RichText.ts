// A message's text with its links and mentions: elements made one by one, never markup.

import { h, type FunctionalComponent } from 'vue'
import { segmentsOf } from '../text/segments'

export const RichText: FunctionalComponent<{ text: string; me: string }> = ({ text, me }) =>
  segmentsOf(text).map((segment) => {
    if (segment.kind === 'text') return segment.text
    if (segment.kind === 'mention') {
      return h('span', { class: ['mention', { me: segment.user === me }], dir: 'auto' }, segment.text)
    }
    return h('a', { href: segment.href, target: '_blank', rel: 'noopener noreferrer nofollow ugc' }, segment.text)
  })
RichText.props = ['text', 'me']
