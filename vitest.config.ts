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
          // Only for what hangs: rabbitmqctl alone may take ten times as long on a machine with other work.
          testTimeout: 120_000,
          hookTimeout: 180_000
        }
      }
    ]
  }
})
