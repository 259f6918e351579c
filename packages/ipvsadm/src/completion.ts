/**
 * Shell completion for bash, zsh and fish, written from the tables of commands and options: the first word offers the
 * commands, a command offers the options it may have, an option offers its values.
 */
import { type CommandDefinition, commands } from './commands.ts';
import { type OptionDefinition, options } from './options.ts';

export const shells = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof shells)[number];

export function completionScript(shell: Shell): string {
  return { bash, zsh, fish }[shell]();
}

export function optionsOf(command: CommandDefinition): OptionDefinition[] {
  const allowed = new Set([...command.needs, ...command.allows, ...(command.oneOf ?? [])]);
  const takesService = allowed.has('service-address');
  return options.filter(({ name, long }) => (name ? allowed.has(name) : long === 'ipv6' ? takesService : false));
}

function bash(): string {
  const values = [...commands, ...options].flatMap((word) =>
    word.values
      ? [`    ${wordsOf(word).join('|')}) COMPREPLY=($(compgen -W '${word.values.join(' ')}' -- "$word")); return ;;`]
      : [],
  );
  const choices = commands.map(
    (command) => `    ${wordsOf(command).join('|')}) words='${optionsOf(command).flatMap(wordsOf).join(' ')}' ;;`,
  );
  return `# bash completion for ipvsadm, generated from its tables
_ipvsadm() {
  local word=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} words
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '${commands.flatMap(wordsOf).join(' ')}' -- "$word"))
    return
  fi
  case $previous in
${values.join('\n')}
  esac
  case \${COMP_WORDS[1]} in
${choices.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -F _ipvsadm ipvsadm
`;
}

function zsh(): string {
  const specs = (words: readonly Completable[]) =>
    words
      .flatMap((word) => wordsOf(word).map((each) => `    ${quote(`${each}${zshArgument(word, each)}`)}`))
      .join(' \\\n');
  const choices = commands.map(
    (command) => `  ${wordsOf(command).join('|')}) _arguments -S \\
${specs([command, ...optionsOf(command)])} ;;`,
  );
  return `#compdef ipvsadm
# zsh completion for ipvsadm, generated from its tables
if (( CURRENT == 2 )); then
  local -a commands=(
${commands.flatMap((command) => wordsOf(command).map((word) => `    ${quote(`${word}:${command.summary}`)}`)).join('\n')}
  )
  _describe command commands
  return
fi
case $words[2] in
${choices.join('\n')}
esac
`;
}

function zshArgument(word: Completable, spelling: string): string {
  const summary = `[${word.summary.replaceAll('[', '(').replaceAll(']', ')')}]`;
  if (!word.argument) return summary;
  const attached = spelling.startsWith('--') ? '=' : '+';
  const separator = word.argument === 'optional' ? '::' : ':';
  const values = word.values ? `(${word.values.join(' ')})` : '';
  return `${attached}${summary}${separator}${(word.argumentName ?? 'value').replaceAll(':', '\\:')}:${values}`;
}

function fish(): string {
  const commandLines = commands.map((command) => fishLine('__fish_is_first_token', command));
  const optionLines = options.flatMap((option) => {
    const beside = commands.filter((command) => optionsOf(command).includes(option)).flatMap(wordsOf);
    return beside.length > 0 ? [fishLine(`__fish_contains_ipvsadm ${beside.join(' ')}`, option)] : [];
  });
  return `# fish completion for ipvsadm, generated from its tables
function __fish_contains_ipvsadm
    set -l words (commandline -opc)
    contains -- $words[2] $argv
end
complete -c ipvsadm -f
${[...commandLines, ...optionLines].join('\n')}
`;
}

function fishLine(condition: string, word: Completable): string {
  const short = [...(word.short ?? '')].map((letter) => ` -s ${letter}`).join('');
  const values = word.values ? ` -a ${quote(word.values.join(' '))}` : '';
  const argument = word.argument === 'required' ? ' -x' : '';
  return `complete -c ipvsadm -n ${quote(condition)}${short} -l ${word.long}${argument}${values} -d ${quote(word.summary)}`;
}

type Completable = CommandDefinition | OptionDefinition;

function wordsOf({ long, short }: Completable): string[] {
  return [...[...(short ?? '')].map((letter) => `-${letter}`), `--${long}`];
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
