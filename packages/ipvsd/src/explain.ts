/** How a command of ours ends when something fails that no text of ipvsadm's covers. */

/** A failure that is nobody's mistake of typing: one line, and status 2 as ipvsadm has it where the kernel lacks ip_vs. */
export async function orExplain(work: () => Promise<void> | void): Promise<void> {
  try {
    await work();
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 2;
  }
}
