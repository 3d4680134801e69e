// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControlDefaultAdminRules} from
    "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";

import {ISettlementLedger} from "./ISettlementLedger.sol";

/**
 * @title LedgerRoles
 * @notice The four roles of a ledger, and that no key holds two: one stolen key can't both post and attest.
 */
abstract contract LedgerRoles is AccessControlDefaultAdminRules {
    bytes32 public constant POSTER_ROLE = keccak256("POSTER_ROLE");
    bytes32 public constant AUDITOR_ROLE = keccak256("AUDITOR_ROLE");
    bytes32 public constant GUARDIAN_ROLE = keccak256("GUARDIAN_ROLE");

    /// @dev Chain id of a local development chain, where one person plays all roles and waits a minute, not two days.
    uint256 private constant DEVELOPMENT_CHAIN_ID = 31_337;

    constructor(uint48 adminDelay, address admin, address poster, address auditor, address guardian)
        AccessControlDefaultAdminRules(adminDelay, admin)
    {
        _grantRole(POSTER_ROLE, poster);
        _grantRole(AUDITOR_ROLE, auditor);
        _grantRole(GUARDIAN_ROLE, guardian);
    }

    /// @dev Every grant passes here: by the constructor, by the admin, and when the admin's own key changes hands.
    function _grantRole(bytes32 role, address account) internal override returns (bool) {
        if (!_isDevelopmentChain()) {
            bytes32[4] memory roles = [DEFAULT_ADMIN_ROLE, POSTER_ROLE, AUDITOR_ROLE, GUARDIAN_ROLE];
            for (uint256 i = 0; i < roles.length; ++i) {
                if (roles[i] != role && hasRole(roles[i], account)) {
                    revert ISettlementLedger.AccountHoldsAnotherRole(account, roles[i]);
                }
            }
        }
        return super._grantRole(role, account);
    }

    function _isDevelopmentChain() internal view returns (bool) {
        return block.chainid == DEVELOPMENT_CHAIN_ID;
    }
}
