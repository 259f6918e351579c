import { test } from 'vitest';
import { alu64, call, exit, jump, jump64, ldMap, ldx, mov64, stx, st, callFunction, atomic, type Insn } from '../assembler/index.ts';
import { collection, mapSpec } from '../testing/programs.ts';
import { loadCollection } from './collection.ts';
import { VerifierError } from './verifier-error.ts';
const progs: Record<string, readonly Insn[]> = {
  packet: [ldx(4,2,1,76), ldx(4,0,2,0), exit()],
  nullp: [st(4,10,-4,0), ...ldMap(1), mov64(2,{reg:10}), alu64('add',2,-4), call(1), ldx(4,0,0,0), exit()],
  uninit: [mov64(0,{reg:3}), exit()],
  loop: [mov64(0,0), jump(-2), exit()],
  big: [mov64(0,0), call(7), mov64(6,{reg:0}), mov64(7,0), ...Array.from({length:30},(_, i)=>[call(7), jump64('set',0,1,1), alu64('add',7,1<<i)]).flat(), mov64(0,{reg:7}), exit()],
  ctx: [mov64(0,0), stx(4,1,76,0), exit()],
  stack: [st(8,10,-520,0), mov64(0,0), exit()],
  ret: [exit()],
  range: [ldx(4,2,1,8), mov64(3,{reg:10}), alu64('add',3,{reg:2}), ldx(4,0,3,0), exit()],
  helperArg: [mov64(1,0), mov64(2,0), call(1), exit()],
  unknownHelper: [call(900), exit()],
  infloop: [ldx(4,6,1,8), mov64(0,0), jump64('eq',6,7,-2), jump(-3), exit()],
};
test('x', () => {
  for (const [name, insns] of Object.entries(progs)) {
    const t=performance.now();
    try { loadCollection(collection([{ name, insns, relocations: name==='nullp'?[{kind:'map',instruction:1,map:'m'}]:[], lines:[{instruction:0,file:0,line:1,column:3}] }],[mapSpec({name:'m',type:'hash'})],[{path:'src/x.ts',text:'  const a = 1;'}])).close(); console.log(name,'LOADED'); }
    catch (e) { console.log('=====',name, (performance.now()-t).toFixed(0)); console.log((e as Error).message); if (e instanceof VerifierError) console.log('-- tail:\n', e.log.slice(-500)); }
  }
});
