// biome-ignore-all lint/suspicious/noTemplateCurlyInString: ${NAME} is keepalived.conf, not a template
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatDiagnostic, verdictOf } from './diagnostics.ts';
import type { Files } from './glob.ts';
import { lex } from './lexer.ts';
import { lineFinder, parseText } from './parse.ts';
import type { Statement } from './tree.ts';

const INSIDE = 'virtual_server 1.1.1.1 80 {';

/** The first words after each `lvs_sched` in a virtual server holding these lines. */
function schedulers(lines: string, options: Parameters<typeof parseText>[1] = {}): string[] {
  const { statements } = parseText(`${INSIDE}\n${lines}\n}`, options);
  return statements.flatMap(({ block }) => block ?? []).map((statement) => statement.arguments[0]?.text ?? '');
}

function outline(statements: readonly Statement[]): unknown {
  return statements.map(({ keyword, arguments: words, block }) => {
    const line = [keyword, ...words].map(({ text }) => text).join(' ');
    return block === undefined ? line : [line, outline(block)];
  });
}

describe('words', () => {
  test('adjacent quoted and unquoted pieces are one word', () => {
    expect(schedulers('lvs_sched aa"b c"d')).toEqual(['aab cd']);
  });

  test('inside quotes escapes mean what they mean in a shell', () => {
    expect(schedulers(String.raw`lvs_sched "a\tb\x41\101\cAz\q"`)).toEqual(['a\tbAA\x01zq']);
  });

  test('a comment begins at # or ! wherever it stands, except in quotes', () => {
    expect(schedulers('lvs_sched aa!bb\nlvs_sched "aa!bb#c" # more\n! all of it')).toEqual(['aa', 'aa!bb#c']);
  });

  test('a quote without end drops its line, and says where it began', () => {
    const { statements, diagnostics } = parseText(`${INSIDE}\n  lvs_sched "rr\n  ops\n}`);
    expect(outline(statements)).toEqual([['virtual_server 1.1.1.1 80', ['ops']]]);
    expect(diagnostics.map(({ code, position }) => [code, position.line, position.column])).toEqual([
      ['unmatchedQuote', 2, 13],
    ]);
  });
});

describe('blocks', () => {
  test('braces need neither blanks nor lines of their own', () => {
    const { statements, diagnostics } = parseText('virtual_server 1.1.1.1 80{ ops real_server\n}');
    expect(diagnostics.map(({ code }) => code)).toEqual(['surplusArgument']);
    expect(outline(statements)).toEqual([['virtual_server 1.1.1.1 80', ['ops real_server']]]);
    const below = parseText('virtual_server 1.1.1.1 80\n{\n real_server 1.1.1.2 80 { weight 3 } ops }');
    expect(below.diagnostics).toEqual([]);
    expect(outline(below.statements)).toEqual([
      ['virtual_server 1.1.1.1 80', [['real_server 1.1.1.2 80', ['weight 3']], 'ops']],
    ]);
  });

  test("an unknown block drops its own line, and its } closes the block around it, as keepalived's does", () => {
    const { statements, diagnostics } = parseText(
      'virtual_server 1.1.1.1 80 {\n foo {\n  weight 3\n }\n real_server 2.2.2.2 80 {\n }\n}',
    );
    expect(outline(statements)).toEqual([['virtual_server 1.1.1.1 80', ['weight 3']]]);
    expect(diagnostics.map(({ code, position }) => `${position.line} ${code}`)).toEqual([
      '2 unknownKeyword',
      '2 unexpectedBrace',
      '5 unknownKeyword',
      '5 unexpectedBrace',
      '6 extraBrace',
      '7 extraBrace',
    ]);
  });

  test('a block without { is read all the same, a block without } is reported where it began', () => {
    const { diagnostics } = parseText('virtual_server 1.1.1.1 80 {\n real_server 1.1.1.3 80\n TCP_CHECK { }\n');
    expect(diagnostics.map(({ code, position }) => `${position.line} ${code}`)).toEqual([
      '2 missingBrace',
      '1 unclosedBlock',
      '2 unclosedBlock',
    ]);
  });

  test('a keyword without its argument makes keepalived refuse to run', () => {
    expect(verdictOf(parseText(`${INSIDE}\n delay_loop\n}`).diagnostics)).toBe('refused');
  });
});

describe('definitions', () => {
  test('a name is replaced before a blank, at the end, or in braces', () => {
    const lines =
      '$A=zz\nlvs_sched $A\nlvs_sched ${A}b\nlvs_sched $Ab\nlvs_sched x$A\nlvs_sched $A$A\nlvs_sched "$A b"';
    expect(schedulers(lines)).toEqual(['zz', 'zzb', '$Ab', 'xzz', '$Azz', 'zz b']);
  });

  test('the value is what it is at the time of use', () => {
    const lines = '$BASE=10.${SUB}\n$SUB=0\nlvs_sched ${BASE}.1\n$SUB=7\nlvs_sched ${BASE}.1';
    expect(schedulers(lines)).toEqual(['10.0.1', '10.7.1']);
  });

  test('several lines end in a backslash, and they nest', () => {
    const text = `
$RS= \\
  real_server 10.0.0.\${N} 80 { \\
    weight 1 \\ # as before
  } # the end
$VS= \\
  virtual_server 10.1.0.1 80 { \\
    $N=1 \\
    $RS \\
    $N=2 \\
    $RS \\
  }
$VS`;
    const { statements, diagnostics } = parseText(text);
    expect(diagnostics).toEqual([]);
    expect(outline(statements)).toEqual([
      [
        'virtual_server 10.1.0.1 80',
        [
          ['real_server 10.0.0.1 80', ['weight 1']],
          ['real_server 10.0.0.2 80', ['weight 1']],
        ],
      ],
    ]);
  });

  test('a line without a backslash ends them, also an empty one', () => {
    const { statements, diagnostics } = parseText('$A= \\\n ops \\\n\n hashed\nvirtual_server 1.1.1.1 80 {\n$A\n}');
    expect(outline(statements)).toEqual([['virtual_server 1.1.1.1 80', ['ops']]]);
    expect(diagnostics.map(({ code, position }) => `${position.line} ${code}`)).toEqual(['4 unknownKeyword']);
  });

  test('what is predefined', () => {
    const options = {
      file: '/etc/keepalived/k.conf',
      configId: 'left',
      environment: { HOME: '/root' },
      random: () => 0.5,
    };
    const lines =
      'lvs_sched ${_PWD}\nlvs_sched ${_INSTANCE}\nlvs_sched a${_HASH}${_BANG}b\nlvs_sched ${_ENV HOME}\nlvs_sched ${_RANDOM 10 20}\nlvs_sched ${NONE}';
    expect(schedulers(lines, options)).toEqual(['/etc/keepalived', 'left', 'a#!b', '/root', '15', '${NONE}']);
  });

  test('a definition that uses itself is given up, with its place', () => {
    const { diagnostics } = parseText('$A=x${A}\nrouter_id ${A}');
    expect(diagnostics.map(({ code, position }) => `${position.line} ${code}`)).toEqual(['2 tooLarge']);
  });
});

test('conditions keep lines for one id, or for every other', () => {
  const lines = '@foo lvs_sched aa\n@^foo lvs_sched bb\n@bar lvs_sched cc\n@^bar lvs_sched dd';
  expect(schedulers(lines, { configId: 'foo' })).toEqual(['aa', 'dd']);
});

test('a condition may be a parameter', () => {
  expect(schedulers('$IF=@foo\n$IF lvs_sched aa\n${IF} lvs_sched bb', { configId: 'foo' })).toEqual(['aa', 'bb']);
});

test('sequences and lists repeat their line, nested from left to right', () => {
  const lines = `
~SEQ(i,1,3) lvs_sched a$i
~SEQ(i,3,1) lvs_sched b\${i}c
~SEQ(i,1,2,6) lvs_sched c$i
~SEQ(i,2) lvs_sched d$i
~SEQx(i,9,11) lvs_sched x$i
~LST(v,aa,bb) lvs_sched l$v
~LST({a,b},{1,2},{3,4}) lvs_sched m\${a}-\${b}
~SEQ(i,1,2) ~SEQ(j,1,2) lvs_sched n\${i}\${j}`;
  expect(schedulers(lines).join(' ')).toBe(
    'a1 a2 a3 b3c b2c b1c c1 c3 c5 d1 d2 x9 xa xb laa lbb m1-2 m3-4 n11 n12 n21 n22',
  );
});

describe('include', () => {
  const folder: Readonly<Record<string, string>> = {
    '/etc/k/a.conf': 'lvs_sched a',
    '/etc/k/b.conf': 'lvs_sched b',
    '/etc/k/sub/c.conf': 'lvs_sched c\ninclude d.inc',
    '/etc/k/sub/d.inc': 'lvs_sched d',
    '/etc/k/loop.conf': 'include loop.conf',
  };
  const files: Files = {
    read: (path) => folder[path] ?? new Error('no such file'),
    list: (path) => [
      ...new Set(
        Object.keys(folder)
          .filter((file) => file.startsWith(path === '/' ? '/' : `${path}/`))
          .map((file) => file.slice(path === '/' ? 1 : path.length + 1).split('/')[0]!),
      ),
    ],
  };
  const options = { file: '/etc/k/k.conf', files };

  test('names are taken from the folder of the file that includes, with wildcards and braces', () => {
    expect(schedulers('include *.co[mn]f\ninclude sub/*.conf\ninclude {b,a}.conf', options)).toEqual(
      // loop.conf includes itself and gives nothing.
      ['a', 'b', 'c', 'd', 'b', 'a'],
    );
  });

  test('a missing file is an error only where the variant says so', () => {
    const codes = (line: string) => parseText(line, options).diagnostics.map(({ code }) => code);
    expect(codes('include nothing')).toEqual([]);
    expect(codes('includer nothing')).toEqual(['includeUnreadable']);
    expect(codes('includem none*')).toEqual(['includeMissing']);
    expect(codes('includew none*')).toEqual(['includeMissing']);
    expect(codes('includeb {a,x}.conf')).toContain('includeMissing');
    expect(codes('includea none')).toEqual(['includeUnreadable', 'includeMissing']);
    expect(codes('include loop.conf')).toEqual(['includeLoop']);
  });
});

test('a diagnostic shows its line and a caret, also where the text came from a definition', () => {
  const { diagnostics, sources } = parseText('$X=lvs_shed\nvirtual_server 1.1.1.1 80 {\n\t  $X rr\n}');
  expect(diagnostics.map((diagnostic) => formatDiagnostic(diagnostic, lineFinder(sources)))).toEqual([
    'keepalived.conf:3:4: error: There is no keyword "lvs_shed" in a virtual_server block (did you mean "lvs_sched"?); the line is ignored\n' +
      '  \t  $X rr\n  \t  ^',
  ]);
});

describe('whatever the bytes', () => {
  const parameters = { seed: Number(process.env['SEED'] ?? Date.now() % 2 ** 31), numRuns: 2000 };
  const fragments = fc.constantFrom(
    ...[
      'virtual_server',
      'real_server',
      '1.1.1.1',
      '80',
      '{',
      '}',
      '"',
      "'",
      '\\',
      '\n',
      ' ',
      '$A',
      '${A}',
      '$A=',
      '@x',
    ],
    ...[
      '~SEQ(a,1,3)',
      '~LST(',
      '!',
      '#',
      'include',
      '*',
      ',',
      ')',
      '${_RANDOM',
      '\t',
      'url',
      'path',
      '\0',
      'é',
      '(',
      '[',
    ],
  );
  const anything = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(fragments, { maxLength: 60 }).map((parts) => parts.join('')),
  );

  test(`the pieces of a line joined are the line (seed ${parameters.seed})`, () => {
    const line = anything.map((text) => text.replaceAll('\n', ' '));
    fc.assert(
      fc.property(
        line,
        (text) =>
          lex(text, { comments: true })
            .map((piece) => piece.text)
            .join('') === text,
      ),
      parameters,
    );
  });

  test(`the parser answers, and every position is inside the file (seed ${parameters.seed})`, () => {
    fc.assert(
      fc.property(anything, (text) => {
        const lines = text.split('\n');
        for (const { position, message } of parseText(text).diagnostics) {
          expect(message).not.toContain('undefined');
          expect(position.line).toBeLessThanOrEqual(lines.length);
          expect(position.column).toBeLessThanOrEqual((lines[position.line - 1] ?? '').length + 1);
        }
      }),
      parameters,
    );
  });
});
