/** `ipvsd completion`: a script for the shell, made from ipvsadm's own tables of options. */
import { completionScript } from '@ipvsd/ipvsadm/completion';

const SHELLS = ['bash', 'zsh', 'fish'] as const;

export function completion(shell: string): void {
  const known = SHELLS.find((name) => name === shell);
  if (known === undefined) throw new Error(`Cannot complete for "${shell}": there are ${SHELLS.join(', ')}`);
  process.stdout.write(completionScript(known));
}
