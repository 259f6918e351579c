export * from './conf/parse.ts';
