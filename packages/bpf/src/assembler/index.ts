export * from './assembler.ts';
export * from './disassembler.ts';
export * from './helper-names.ts';
