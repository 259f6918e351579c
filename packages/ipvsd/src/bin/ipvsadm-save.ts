#!/usr/bin/env node
import { ipvsadmSaveMain } from '@ipvsd/ipvsadm';
import { orExplain } from '../explain.ts';

// Loaded when a command needs it: `--help` needs neither kernel nor privilege.
await orExplain(() => ipvsadmSaveMain(async () => (await import('../open-director.ts')).openDirector()));
