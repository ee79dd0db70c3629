import vue from '@vitejs/plugin-vue'
import { defineConfig } from 'vitest/config'

const broker = process.env['TIDINGS'] ?? 'http://127.0.0.1:8083'
const proxy = { '/mqtt': { target: broker, ws: true }, '/v1': { target: broker } }

export default defineConfig({
  plugins: [vue()],
  // Relative, so that the page can be served from any path.
  base: './',
  build: {
    target: 'es2022',
    // mqtt.js is most of it.
    chunkSizeWarningLimit: 700,
    rollupOptions: { input: ['index.html', 'admin.html'] },
  },
  // `npm run dev` talks to a broker on its usual port, or where TIDINGS says.
  server: { proxy },
  preview: { proxy },
  test: { environment: 'node', include: ['src/**/*.test.ts'] },
})
