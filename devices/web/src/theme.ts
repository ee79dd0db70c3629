// Light or dark: as the system has it, until the person chooses.

import { ref, watchEffect } from 'vue'

export type Theme = 'auto' | 'light' | 'dark'
export const THEMES: readonly Theme[] = ['auto', 'light', 'dark']
const KEY = 'tidings.theme'

export const theme = ref<Theme>(THEMES.find((one) => one === localStorage.getItem(KEY)) ?? 'auto')

watchEffect(() => {
  localStorage.setItem(KEY, theme.value)
  document.documentElement.dataset['theme'] = theme.value
})
