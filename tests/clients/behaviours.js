// What the clients in JavaScript share: a list of behaviours, each run and told in one line.

const found = [];
const run = Math.random().toString(16).slice(2, 10);

exports.run = run;
exports.named = (name) => `${name}-${run}`;
exports.behaviour = (name, body) => found.push({ name, body });
exports.sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

exports.until = async (what, condition, seconds = 20) => {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
    if (await condition()) return;
    await exports.sleep(100);
  }
  throw new Error(`not within ${seconds} s: ${what}`);
};

exports.main = async (title, before, after) => {
  console.log(`# ${title}`);
  const words = process.argv.slice(2).filter((word) => word.startsWith("only=")).map((word) => word.slice(5));
  let failed = 0;
  // Testcontainers lets the process end while it waits for a stream.
  const alive = setInterval(() => {}, 1000);
  await before();
  for (const { name, body } of found) {
    if (words.length && !words.some((word) => name.includes(word))) continue;
    const begin = Date.now();
    try {
      const limit = new Promise((_, fail) => setTimeout(() => fail(new Error("not within 90 s")), 90_000).unref());
      await Promise.race([body(), limit]);
      console.log(`ok - ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`not ok - ${name}: ${String(error?.message ?? error).replace(/\s+/g, " ").slice(0, 400)}`);
      if (process.env.D2K_CLIENTS_TRACE) console.log(error);
    }
    if (process.env.D2K_CLIENTS_TRACE) console.log(`# ${(Date.now() - begin) / 1000} s`);
    await after();
  }
  clearInterval(alive);
  process.exit(failed ? 1 : 0);
};
