import { defineConfig } from "vitest/config"

/** Tests of the container image and of what docker-compose.yml makes of it: `npm run test:image`. */
export default defineConfig({
  test: {
    name: "image",
    root: new URL("../..", import.meta.url).pathname,
    include: ["test/image/**/*.test.ts"],
    globalSetup: ["test/image/setup.ts"],
    maxWorkers: 2,
    testTimeout: 180_000,
    hookTimeout: 300_000
  }
})
