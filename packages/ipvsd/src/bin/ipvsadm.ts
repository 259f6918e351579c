#!/usr/bin/env node
import { ipvsadmMain } from '@ipvsd/ipvsadm';
import { orExplain } from '../explain.ts';

// Loaded when a command needs it: `--help` needs neither kernel nor privilege.
await orExplain(() => ipvsadmMain(async () => (await import('../open-director.ts')).openDirector()));
