import { defineConfig } from "vitest/config"

/** Tests that need the real servers; all others are pure and run alone with `npm run test:unit`. */
const onServers = [
  "test/{integration,contract,model,postgres,end-to-end}/**/*.test.ts",
  "test/**/*.integration.test.ts"
]

/** Tests of the container image, which have a configuration of their own. */
const ofImage = "test/image/**"

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: [...onServers, ofImage]
        }
      },
      {
        extends: true,
        test: {
          name: "integration",
          include: onServers,
          globalSetup: ["test/support/servers.ts"],
          // Less than a minute, which is the backstop: it finds in the end what no protection has told of.
          testTimeout: 50_000,
          hookTimeout: 180_000
        }
      }
    ]
  }
})
