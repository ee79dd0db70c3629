import vue from '@vitejs/plugin-vue'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  plugins: [vue()],
  // Relative, so that the page can be served from any path.
  base: './',
  build: {
    target: 'es2022',
    // mqtt.js is most of it.
    chunkSizeWarningLimit: 700,
  },
  server: {
    // `npm run dev` talks to a broker on its usual port.
    proxy: { '/mqtt': { target: 'ws://127.0.0.1:8083', ws: true } },
  },
  test: { environment: 'node', include: ['src/**/*.test.ts'] },
})
