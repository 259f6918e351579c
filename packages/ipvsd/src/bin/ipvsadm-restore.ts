#!/usr/bin/env node
import { ipvsadmRestoreMain } from '@ipvsd/ipvsadm';
import { openDirector, orExplain } from '../open-director.ts';

await orExplain(() => ipvsadmRestoreMain(openDirector));
