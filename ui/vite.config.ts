import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  plugins: [svelte()],
  clearScreen: false,
  server: { port: 5173, strictPort: true },
  // The content security policy allows no inline data; fonts and pictures stay files.
  build: { target: 'es2022', assetsInlineLimit: 0 },
  // Tests mount components, as a browser does.
  resolve: process.env.VITEST ? { conditions: ['browser'] } : {},
  test: { environment: 'happy-dom', include: ['src/**/*.test.ts', 'scripts/**/*.test.mjs'] },
})
