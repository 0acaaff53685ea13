// better-auth's API key plugin behind a bare HTTP server:
// node server.js PORT DATABASE KEYS-FILE COUNT [tuned]
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { DatabaseSync } from "node:sqlite";
import { apiKey } from "@better-auth/api-key";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";

const [port, path, keysFile, count, tuned] = process.argv.slice(2);

const database = new DatabaseSync(path);
// The keys need not survive anything.
database.exec("PRAGMA synchronous = OFF");

const options = {
  database,
  baseURL: `http://127.0.0.1:${port}`,
  secret: "a secret for measuring, and for nothing else",
  emailAndPassword: { enabled: true },
  logger: { disabled: true },
  telemetry: { enabled: false },
  // Limited, as it is by default, but so that no request of the measurement is refused.
  plugins: [apiKey({ rateLimit: { enabled: true, timeWindow: 1000, maxRequests: 1_000_000 } })],
};
await (await getMigrations(options)).runMigrations();
const auth = betterAuth(options);

const { user } = await auth.api.signUpEmail({
  body: { email: "bench@example.com", name: "Bench", password: "only for measuring" },
});
const keys = [];
for (let number = 1; number <= Number(count); number++) {
  keys.push((await auth.api.createApiKey({ body: { name: `key ${number}`, userId: user.id } })).key);
}
writeFileSync(keysFile, keys.join("\n"));
// What a new database has is what the plugin's documentation leads to; many services choose the other.
database.exec(tuned ? "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL" : "PRAGMA synchronous = FULL");

createServer({ keepAlive: true }, async (request, response) => {
  const key = request.headers.authorization?.replace(/^Bearer /, "") ?? "";
  const { valid } = await auth.api.verifyApiKey({ body: { key } });
  response.writeHead(valid ? 200 : 401, { "content-length": "0" }).end();
}).listen(Number(port), "127.0.0.1");
