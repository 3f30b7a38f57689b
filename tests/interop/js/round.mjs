// The same round with every client: submit, wait, logs, an error, cancel. Prints one JSON line.

export async function round(client, { protocol, quick, slow, cwd, listTools }) {
  const call = async (name, args) => {
    const result = await client.callTool({ name, arguments: args });
    return { error: result.isError ? result.content[0].text : null, ...result.structuredContent };
  };
  const submit = async (config) =>
    (await call("run_oumi_job", { config_path: config, client_cwd: cwd, dry_run: false })).job_id;
  const wait = async (job_id, until) =>
    (await call("wait_for_job", { job_id, until, timeout_seconds: 50 })).state;

  const tools = (await listTools()).tools.map((tool) => tool.name);

  const first = await submit(quick);
  const waited = await wait(first, "done");
  const logs = (await call("get_job_logs", { job_id: first })).logs;
  const error = (await call("cancel_job", { job_id: first })).error;

  const second = await submit(slow);
  const started = await wait(second, "running");
  await call("cancel_job", { job_id: second });
  const cancelled = await wait(second, "done");

  console.log(JSON.stringify({ protocol, tools, waited, logs, error, started, cancelled }));
}
