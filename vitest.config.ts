import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const source = (name: string): string => fileURLToPath(new URL(`./packages/${name}/src/index.ts`, import.meta.url));

/** Tests run the TypeScript sources themselves, so a package name means its src folder, not its build. */
export default defineConfig({
  resolve: {
    alias: [
      { find: /^@ipvsd\/bpf\/(kernel|compiler)$/, replacement: `${source('bpf').replace('index.ts', '')}$1/index.ts` },
      { find: '@ipvsd/bpf/testing', replacement: source('bpf').replace('index.ts', 'testing/kernel.ts') },
      { find: '@ipvsd/ipvsadm/completion', replacement: source('ipvsadm').replace('index.ts', 'completion.ts') },
      {
        find: '@ipvsd/ipvsadm/conformance',
        replacement: source('ipvsadm').replace('index.ts', 'conformance-index.ts'),
      },
      ...['linux', 'bpf', 'ipvs', 'director', 'ipvsadm', 'keepalived', 'load'].map((name) => ({
        find: new RegExp(`^@ipvsd/${name}$`),
        replacement: source(name),
      })),
    ],
  },
  test: {
    testTimeout: 120_000,
    projects: [
      {
        extends: true,
        test: {
          name: 'fast',
          include: ['packages/*/src/**/*.test.ts', 'bench/src/**/*.test.ts'],
          exclude: ['**/*.slow.test.ts'],
        },
      },
      // What takes long or builds whole clusters: part of `npm test`, not of `npm run check`.
      { extends: true, test: { name: 'slow', include: ['packages/*/src/**/*.slow.test.ts'] } },
    ],
  },
});
