// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

/**
 * @title LedgerTimelock
 * @notice The admin of a ledger: OpenZeppelin's timelock, which administers itself. Guardians may cancel what was
 * announced; anyone may carry out what has waited, so that no step depends on one key alone.
 */
contract LedgerTimelock is TimelockController {
    constructor(uint256 minDelay, address[] memory proposers, address[] memory cancellers)
        TimelockController(minDelay, proposers, new address[](1), address(0))
    {
        for (uint256 i = 0; i < cancellers.length; ++i) {
            _grantRole(CANCELLER_ROLE, cancellers[i]);
        }
    }
}
