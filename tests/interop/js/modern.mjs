// The TypeScript SDK 2, pinned to the stateless protocol.
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { round } from "./round.mjs";

const [quick, slow, cwd, command, ...args] = process.argv.slice(2);
const client = new Client(
  { name: "interop-modern", version: "1.0.0" },
  { versionNegotiation: { mode: { pin: "2026-07-28" } } },
);
await client.connect(new StdioClientTransport({ command, args, env: process.env }));
try {
  const protocol = client.getNegotiatedProtocolVersion();
  await round(client, { protocol, quick, slow, cwd, listTools: () => client.listTools() });
} finally {
  await client.close();
}
