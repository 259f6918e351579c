import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const source = (name: string): string => fileURLToPath(new URL(`./packages/${name}/src/index.ts`, import.meta.url));

/** Tests run the TypeScript sources themselves, so a package name means its src folder, not its build. */
export default defineConfig({
  resolve: {
    alias: {
      '@ipvsd/linux': source('linux'),
      '@ipvsd/bpf': source('bpf'),
      '@ipvsd/ipvs': source('ipvs'),
      '@ipvsd/director': source('director'),
      '@ipvsd/ipvsadm': source('ipvsadm'),
    },
  },
  test: {
    include: ['packages/*/src/**/*.test.ts', 'scripts/**/*.test.ts'],
    testTimeout: 60_000,
  },
});
